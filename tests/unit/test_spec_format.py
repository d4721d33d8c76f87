"""What the spec format can say beyond one value in one register, and what of it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from iotcore.reading import Quality, Value
from iotcore.specs import decode, firmware, plan, repeat
from iotcore.specs.model import DeviceSpec, Table
from tests.support.spec_documents import POINT, STATES, document, parse, problems, wire

PANEL_POINT = {"kind": "bool", "modbus": {"table": "holding", "address": 100, "type": "uint16", "bit": 11}}
TITLES = {"vi": "Đầu báo {detector} mạch {loop}", "en": "Detector {detector} of loop {loop}"}


def panel(**changes: Any) -> dict[str, Any]:
    loops = {
        "over": {"loop": [1, 10], "detector": [1, 159]},
        "stride": {"loop": 400, "detector": 1},
        "points": {"l{loop}_d{detector}_fire": PANEL_POINT | {"title": TITLES}},
    }
    return document({}, device_class="fire_panel", repeats=[loops | changes])


def enum(**changes: Any) -> dict[str, Any]:
    return wire(type="uint16") | {"kind": "enum", "states": {"0": "ok", "1": "replace"}} | changes


def firm(*revisions: dict[str, Any], **changes: Any) -> dict[str, Any]:
    told = {"table": "input", "address": 9, "type": "uint16"}
    return document(firmware={"base": ["1.*", "104"], "modbus": told, "revisions": list(revisions)} | changes)


def revision(**changes: Any) -> dict[str, Any]:
    return {"versions": ["2.*"], "differs": "one has moved", "points": {"one": wire(address=7)}} | changes


def command(**changes: Any) -> dict[str, Any]:
    plain = {"safety": "routine", "title": {"vi": "Chọn", "en": "Choose"}, "modbus": wire(address=5)["modbus"], "range": [0, 3]}
    return document(commands={"choose": plain | changes})


def vendor(protocol: str, point: dict[str, Any], **mqtt: Any) -> dict[str, Any]:
    return document({"one": point}, protocol=protocol, mqtt={"topic": "x/{device}"} | mqtt)


def said(spec: DeviceSpec, *words: int) -> Value:
    return decode.values(spec, {("holding", i): word for i, word in enumerate(words)})[0]


@pytest.mark.parametrize(
    ("plain", "path", "reason"),
    [
        (document({"one": wire(address=40001)}), "", ""),
        (document({"one": wire(address=465536)}), "points.one.modbus.address", "modbus.addresses: modicon"),
        (
            document({"one": wire(address=5)}, modbus={"addresses": "modicon"}),
            "points.one.modbus.address",
            "not in table holding",
        ),
        (
            document({"one": wire(table="input", address=40001)}, modbus={"addresses": "modicon"}),
            "points.one.modbus.address",
            "30001 to 39999",
        ),
        (document({"test": POINT}), "points.test", "choose another"),
        (document({"heat_bad": POINT}), "points.heat_bad", "is a name that stores need (completeness, expected, quality"),
        (document({"one": wire(type="string")}), "points.one.modbus.length", "how many registers"),
        (document({"one": wire(length=2)}), "points.one.modbus.length", "for strings only"),
        (document({"one": wire(type="string", length=2)}), "points.one.kind", "must be text"),
        (
            document({"one": wire(type="string", length=9) | {"kind": "text"}}, modbus={"max_registers": 8}),
            "points.one.modbus.type",
            "needs 9 registers",
        ),
        (document({"one": wire(mask=0xFF)}), "points.one.modbus.mask", "field of a uint16"),
        (document({"one": wire(type="uint16", mask=0)}), "points.one.modbus.mask", ">= 1"),
        (document({"one": wire(type="uint16", mask=0xF0) | {"range": [0, 16]}}), "points.one.range", "0 to 15"),
        (document({"one": enum(states={})}), "points.one.states", "are missing"),
        (document({"one": enum(states={"65536": "x"})}), "points.one.states.65536", "no raw value of uint16"),
        (document({"one": enum(states={"one": "x"})}), "points.one.states.one", "no raw value"),
        (document({"one": enum(states={"1": " "})}), "points.one.states.1", "must be a word"),
        (document({"one": enum(modbus=wire(type="float32")["modbus"])}), "points.one.kind", "enum has no meaning for float32"),
        (document({"one": POINT | {"states": {"0": "x"}}}), "points.one.states", "no meaning for kind number"),
        (document({"one": POINT | {"otherwise": "x"}}), "points.one.otherwise", "no meaning for kind number"),
        (document({"one": enum(kind="flags", states={"16": "x"})}), "points.one.states.16", "write a number 0 to 15"),
        (document({"one": enum(kind="flags", states={"1": "a b"})}), "points.one.states.1", "without a space"),
        (document({"one": enum(kind="flags", states={"1": "a", "2": "a"})}), "points.one.states.1", "a word of its own"),
        (document({"one": POINT | {"true_when": ["1"]}}), "points.one.true_when", "no meaning for kind number"),
        (
            document({"one": wire(type="uint16") | {"kind": "bool", "true_when": ["x"]}}),
            "points.one.true_when[0]",
            "no raw value",
        ),
        (document({"one": enum(deadband=1)}), "points.one.deadband", "no meaning for kind enum"),
        (document({"one": POINT | {"poll_s": 61}}), "points.one.poll_s", "longer than interval_s"),
        (document({"one": {"poll_s": 1}}, protocol="canonical"), "points.one.poll_s", "no meaning for protocol canonical"),
        (document({"one": {"quality": [{"states": STATES}]}}, protocol="canonical"), "", ""),
        (document(quality=[{"table": "holding", "states": STATES}]), "quality[0].address", "is missing"),
        (document(quality=[{"table": "holding", "address": 3, "states": {}}]), "quality[0].states", "are missing"),
        (
            document(quality=[{"table": "holding", "address": 3, "states": STATES, "otherwise": "fine"}]),
            "quality[0].otherwise",
            "is not good",
        ),
        (
            document(quality=[{"table": "discrete", "address": 3, "states": {"2": "bad:x"}}]),
            "quality[0].states.2",
            "a number 0 to 1",
        ),
        (
            document({"one": POINT | {"quality": [{"path": "a", "states": STATES}]}}),
            "points.one.quality[0].path",
            "no meaning for protocol modbus",
        ),
        (panel(over={}), "repeats[0]", "needs an index"),
        (panel(stride={"loop": 400}), "repeats[0].stride", "exactly the indices of over: loop, detector"),
        (panel(over={"loop": [3, 1], "detector": [1, 2]}), "repeats[0].over.loop", "no range"),
        (panel(over={"loop": [1, 500], "detector": [1, 159]}), "repeats[0]", "makes 79500 points"),
        (panel(stride={"loop": 65535, "detector": 1}), "repeats[0].points.l{loop}_d{detector}_fire.modbus.address", "no room"),
        (panel(points={"l{loop}": PANEL_POINT}), "repeats[0].points.l{loop}", "must hold {loop}, {detector}"),
        (panel(points={"{loop}{detector}": PANEL_POINT}), "repeats[0].points.{loop}{detector}", "is no name of a point"),
        (panel(stride={"loop": 400, "detector": 0}), "points.l1_d2_fire.modbus", "is taken by points.l1_d1_fire.modbus"),
        (panel() | {"points": {"l1_d1_fire": POINT}}, "repeats", "make 1 names that stand there already"),
        (
            document({"one": {}}, protocol="canonical", repeats=[{"over": {}, "stride": {}, "points": {}}]),
            "repeats",
            "no meaning",
        ),
        (document(life_check="one"), "life_check", "no point with stuck_after_s"),
        (
            document({"one": {"stuck_after_s": 1.0}}, protocol="canonical"),
            "points.one.stuck_after_s",
            "not longer than interval_s",
        ),
        (
            document({"one": {"kind": "bool", "stuck_after_s": 8e4}}, protocol="canonical"),
            "points.one.stuck_after_s",
            "no meaning for kind bool",
        ),
        (document(test={"point": "two", "values": [True]}), "test.point", "is no point"),
        (document({"one": enum()}, test={"point": "one", "values": ["broken"]}), "test.values[0]", "is no value of one"),
        (firm(base=[]), "firmware.base", "is empty"),
        (firm(revision(versions=["1.*"])), "firmware.revisions[0].versions", "stands twice"),
        (firm(revision(points={})), "firmware.revisions[0]", "differs in nothing"),
        (firm(revision(differs=" ")), "firmware.revisions[0]", "what differs"),
        (firm(revision(without=["nine"])), "firmware.revisions[0].without", "'nine' is no point"),
        (firm(revision(points={"two": POINT})), "firmware.revisions[0].points.two.modbus", "is taken by"),
        (firm(revision(points={"two": wire(type="int24")})), "firmware.revisions[0].points.two.modbus.type", "int24"),
        (firm(json={"path": "fw"}), "firmware.json", "no meaning for protocol modbus"),
        (command(safety="harmless"), "commands.choose.safety", "harmless"),
        (command(title={"en": "Choose"}), "commands.choose.title", "vi and en"),
        (command(modbus=None), "commands.choose.modbus", "what is written"),
        (command(modbus=wire(table="input", address=5)["modbus"]), "commands.choose.modbus.table", "cannot be written"),
        (command(range=None), "commands.choose.range", "which values may be written"),
        (command(states={"1": "x"}), "commands.choose.states", "not both"),
        (command(reads_back="nine"), "commands.choose.reads_back", "is no point"),
        (vendor("json", {"json": {"path": "a..b"}}), "points.one.json.path", "is no path"),
        (vendor("json", {"json": {"path": "a"}}, topic="x/device"), "mqtt.topic", "one level that is {device}"),
        (vendor("json", {"json": {"path": "a"}}, topic="x/#/{device}"), "mqtt.topic", "no #"),
        (vendor("json", {"json": {"path": "a"}}, length=6), "mqtt.length", "for protocol bytes"),
        (vendor("bytes", {"bytes": {"offset": 5, "type": "int16"}}, length=6), "points.one.bytes.offset", "beyond the 6 bytes"),
        (vendor("bytes", {"bytes": {"offset": 0, "type": "int16", "mask": 3}}), "points.one.bytes.mask", "no meaning for int16"),
        (vendor("bytes", {"kind": "text", "bytes": {"offset": 0, "type": "uint8"}}), "points.one.kind", "text has no meaning"),
        (document({"one": {"json": {"path": "a"}}}, protocol="json"), "mqtt", "is missing"),
        (document(mqtt={"topic": "x/{device}"}), "mqtt", "no meaning for protocol modbus"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(plain: dict[str, Any], path: str, reason: str) -> None:
    if not path:  # sound, or wrong in a way that another line names
        plain = plain | {"interval_s": 0}
        path, reason = "interval_s", "> 0"
    assert any(found[0] == path and reason in found[1] for found in problems(plain)), problems(plain)


# addresses


@pytest.mark.parametrize(
    ("table", "kind", "number", "address"),
    [
        ("holding", "int16", 40001, 0),
        ("holding", "int16", 49999, 9998),
        ("holding", "int16", 420001, 20000),
        ("input", "int16", 30001, 0),
        ("input", "int16", 310001, 10000),
        ("discrete", "bit", 10001, 0),
        ("discrete", "bit", 165536, 65535),
        ("coil", "bit", 1, 0),
    ],
)
def test_numbers_that_name_their_table_are_stored_from_zero(table: str, kind: str, number: int, address: int) -> None:
    point = wire(table=table, type=kind, address=number) | ({"kind": "bool"} if kind == "bit" else {})
    spec = parse(document({"one": point}, modbus={"addresses": "modicon"}))
    assert [(each.table, each.address) for each in plan.requests(spec)] == [(table, address)]
    assert spec.modbus is not None
    assert spec.modbus.addresses == "zero_based"


def test_quality_firmware_and_command_addresses_are_of_the_same_notation() -> None:
    judged = wire(address=40001) | {"quality": [{"table": "holding", "address": 40002, "states": STATES}]}
    spec = parse(
        document(
            {"one": judged},
            modbus={"addresses": "modicon"},
            firmware={"base": ["1"], "modbus": {"table": "input", "address": 30010, "type": "uint16"}},
            commands={"choose": command()["commands"]["choose"] | {"modbus": wire(address=40006)["modbus"]}},
        )
    )
    assert [(each.address, each.count) for each in plan.requests(spec)] == [(0, 2)]
    assert plan.version_request(spec) == plan.Request("input", 9, 1, ())
    assert spec.commands["choose"].modbus is not None
    assert spec.commands["choose"].modbus.address == 5


# repeats


def test_a_panel_of_ten_loops_is_one_entry() -> None:
    spec = parse(panel())
    assert len(spec.points) == 1590
    assert [spec.points[name].modbus.address for name in ("l1_d1_fire", "l2_d3_fire")] == [100, 502]  # type: ignore[union-attr]
    assert spec.points["l10_d159_fire"].title == {"vi": "Đầu báo 159 mạch 10", "en": "Detector 159 of loop 10"}
    assert decode.values(spec, {("holding", 100): 0x0810})[0] == Value("l1_d1_fire", value=True)


def test_the_points_that_are_fitted_are_polled_and_no_others() -> None:
    spec = repeat.narrow(parse(panel()), {"loop": (2, 3), "detector": (1, 2)})
    assert list(spec.points) == ["l2_d1_fire", "l2_d2_fire", "l3_d1_fire", "l3_d2_fire"]
    assert [(each.address, each.count) for each in plan.requests(spec)] == [(500, 2), (900, 2)]


@pytest.mark.parametrize("ranges", [{"zone": (1, 2)}, {"loop": (1, 11)}, {"loop": (3, 2)}, {"detector": (0, 5)}])
def test_what_cannot_be_fitted_is_refused(ranges: dict[str, tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match=r"repeats nothing over 'zone'; it knows: detector, loop|is outside 1 to"):
        repeat.narrow(parse(panel()), ranges)


# fields, words and verdicts


def test_fields_of_a_word_and_a_test_on_them() -> None:
    """Notifier MODBUS-GW, LS10015-000NF-E: bit 11 active, low byte 10h fire, 40h supervisory, FFh not present."""
    missing = [{"table": "holding", "address": 0, "mask": 0xFF, "states": {"0xFF": "bad:not_present"}, "otherwise": "good"}]
    spec = parse(
        document(
            {
                "fire": wire(type="uint16", mask=0x08FF)
                | {"kind": "bool", "true_when": ["0x0810", "0x08EA"], "quality": missing},
                "event": wire(type="uint16", mask=0xFF)
                | {"kind": "enum", "states": {"0x10": "fire", "0x40": "supervisory"}, "otherwise": "none", "quality": missing},
                "trouble": wire(type="uint16", bit=13) | {"kind": "bool", "quality": missing},
                "level": wire(type="uint16", mask=0xC000) | {"range": [0, 3]},
            }
        )
    )
    found = {word: [v.value for v in decode.values(spec, {("holding", 0): word})] for word in (0x0810, 0x0840, 0x6000, 0x0010)}
    assert found == {
        0x0810: [True, "fire", False, 0.0],
        0x0840: [False, "supervisory", False, 0.0],
        0x6000: [False, "none", True, 1.0],
        0x0010: [False, "fire", False, 0.0],
    }
    gone = decode.values(spec, {("holding", 0): 0x28FF})
    assert [(value.quality, value.why) for value in gone[:3]] == [(Quality.BAD, "not_present")] * 3
    assert gone[3] == Value("level", 0.0)


def test_a_word_that_no_document_knows_is_bad_and_flags_are_words() -> None:
    assert said(parse(document({"one": enum()})), 9) == Value("one", None, Quality.BAD, "unknown_state")
    assert said(parse(document({"one": enum()})), 1) == Value("one", "replace")
    flags = parse(document({"one": enum(kind="flags", states={"0": "alert", "5": "minor"})}))
    assert [said(flags, word).value for word in (0, 0x21, 0x40)] == ["", "alert minor", "bit6"]


def test_text_in_registers() -> None:
    spec = parse(document({"one": wire(type="string", length=3) | {"kind": "text"}}))
    assert said(spec, 0x4151, 0x5435, 0x0000).value == "AQT5"
    assert said(spec, 0xC328, 0, 0) == Value("one", None, Quality.BAD, "not_text")


def test_the_worst_verdict_counts_and_a_units_own_covers_all_its_points() -> None:
    states = {"1": "bad:calibrating"}
    judged = wire(address=0) | {"quality": [{"table": "holding", "address": 1, "states": STATES}]}
    spec = parse(
        document(
            {"one": judged, "two": wire(address=5)},
            quality=[{"table": "discrete", "address": 16, "states": states, "otherwise": "good"}],
        )
    )
    words: dict[tuple[Table, int], int] = {("holding", 0): 7, ("holding", 1): 1, ("holding", 5): 8}

    def verdicts(discrete: dict[tuple[Table, int], int]) -> list[str]:
        return [f"{value.quality.value}:{value.why}" for value in decode.values(spec, words | discrete)]

    assert verdicts({("discrete", 16): 0}) == ["uncertain:why", "good:"]
    assert verdicts({("discrete", 16): 1}) == ["bad:calibrating", "bad:calibrating"]
    assert verdicts({}) == ["bad:not_read", "bad:not_read"]


# groups


def test_fire_points_are_polled_first_and_each_interval_apart() -> None:
    spec = parse(
        document(
            {
                "fan": wire(address=12) | {"lane": "bulk"},
                "fire": wire(address=8, type="bit", bit=3) | {"kind": "bool", "poll_s": 1},
                "alert": wire(address=8, type="bit", bit=0) | {"kind": "bool", "poll_s": 1},
                "slow": wire(address=20),
            },
            device_class="fire_detector",
            quality=[{"table": "holding", "address": 9, "states": {"0": "good"}}],
        )
    )
    found = [(each.lane, each.poll_s, each.points, [(r.address, r.count) for r in each.requests]) for each in plan.groups(spec)]
    assert found == [
        ("fire", 1.0, ("fire", "alert"), [(8, 2)]),
        ("fire", 60.0, ("slow",), [(9, 1), (20, 1)]),
        ("bulk", 60.0, ("fan",), [(9, 4)]),
    ]


# firmware


@pytest.mark.parametrize(
    ("version", "address"),
    [("1.0", 0), ("1.99b", 0), ("104", 0), ("2.0", 7), ("3.0", None), ("1", None), ("x1.0", None), ("", None)],
)
def test_a_unit_is_read_by_the_layout_of_its_own_version(version: str, address: int | None) -> None:
    found = firmware.layout(parse(firm(revision())), version)
    assert (found and [each.address for each in plan.requests(found)]) == (None if address is None else [address])


def test_an_unknown_version_is_a_trouble_and_never_a_guess() -> None:
    assert firmware.refused(parse(firm())) == (Value("one", None, Quality.BAD, "unknown_firmware"),)


@pytest.mark.parametrize(
    ("told", "words", "version"),
    [
        ({"type": "uint16"}, {9: 104}, "104"),
        ({"type": "uint16"}, {}, None),
        ({"type": "float32"}, {9: 0x4000, 10: 0}, "2"),
        ({"type": "float32"}, {9: 0x4020, 10: 0}, "2.5"),
        ({"type": "float32"}, {9: 0x7FC0, 10: 0}, None),
        ({"type": "string", "length": 2}, {9: 0x322E, 10: 0x3131}, "2.11"),
    ],
)
def test_the_version_that_a_unit_tells(told: dict[str, Any], words: dict[int, int], version: str | None) -> None:
    spec = parse(firm(modbus={"table": "input", "address": 9} | told))
    assert firmware.version(spec, {("input", address): word for address, word in words.items()}) == version


def test_a_version_may_have_other_points() -> None:
    found = firmware.layout(parse(firm(revision(points={"two": wire(address=3)}, without=["one"]))), "2.1")
    assert found is not None
    assert list(found.points) == ["two"]
