"""Specs are refused whole, with file, path and reason of every problem at once, and nothing crashes the loader."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotcore.errors import SpecError
from iotcore.specs import decode, load, plan, schema, yaml12
from iotcore.specs.model import ByteOrder, DeviceSpec, Kind, ModbusWire, Point, RawType, Table
from tests.support.spec_documents import POINT, STATES, document, parse, problems, wire, written


def test_specs_are_found_in_a_checkout_and_in_a_wheel(tmp_path: Path) -> None:
    checkout, wheel = tmp_path / "checkout" / "iotcore", tmp_path / "site-packages" / "iotcore"
    (wheel / "shipped" / "firmware_specs").mkdir(parents=True)
    assert load.shipped_folder(checkout) == tmp_path / "checkout" / "firmware_specs"
    assert load.shipped_folder(wheel) == wheel / "shipped" / "firmware_specs"


def test_a_sound_spec_is_read() -> None:
    spec = parse(document())
    assert spec.points["one"].modbus is not None
    assert spec.points["one"].modbus.address == 0


ORDERS = get_args(ByteOrder)

# one problem, one name


@pytest.mark.parametrize(
    ("plain", "path", "reason"),
    [
        (document(colour="red"), "colour", "unknown key"),
        (document({"one": wire(adress=1)}), "points.one.modbus.adress", "unknown key"),
        (document({"one": wire(address=10.5)}), "points.one.modbus.address", "Expected `int`, got `float`"),
        (document({"one": wire(address=-1)}), "points.one.modbus.address", ">= 0"),
        (document({"one": wire(address=65536)}), "points.one.modbus.address", "above 65535"),
        (document({"one": wire(address=65535, type="int32")}), "points.one.modbus.address", "no room for the 2 registers"),
        (document({"one": wire(type="int24")}), "points.one.modbus.type", "int24"),
        (document({"One": POINT}), "points.One", "matching regex"),
        (document({"one": {}}), "points.one.modbus", "is missing: protocol is modbus"),
        (document({"one": POINT | {"json": {"path": "a.b"}}}), "points.one.json", "no meaning"),
        (document({"one": POINT}, protocol="canonical"), "points.one.modbus", "no meaning for protocol canonical"),
        (document({"one": {}}, protocol="json"), "points.one.json", "is missing: protocol is json"),
        (document({}, protocol="canonical", modbus={}), "modbus", "no meaning for protocol canonical"),
        (document({}), "points", "are missing"),
        (document(source=" "), "source", "name the document"),
        (document(verified=""), "verified", "is empty"),
        (document(interval_s=0), "interval_s", "> 0"),
        (document(interval_s=60, silence_s=60), "silence_s", "above interval_s (60)"),
        (document(interval_s=60, silence_s=151), "silence_s", "at most 150"),
        (document(interval_s=10, silence_s=101), "silence_s", "at most 100"),
        (document(model="Acme"), "model", "matching regex"),
        (document(model="acme-2"), "model", "the file must be named acme-2.yaml"),
        (document({"one": POINT | {"scale": 0}}), "points.one.scale", "is 0"),
        (document({"one": POINT | {"scale": float("nan")}}), "points.one.scale", "not a finite number"),
        (document({"one": POINT | {"range": [5, 5]}}), "points.one.range", "the lower first"),
        (document({"one": POINT | {"range": [0, float("inf")]}}), "points.one.range", "two finite numbers"),
        (document({"one": POINT | {"range": [0, 32768]}}), "points.one.range", "outside what int16 can hold: -32768 to 32767"),
        (document({"one": POINT | {"range": [0, 32767], "scale": -0.1}}), "points.one.range", "-3276.7 to 3276.8"),
        (document({"one": wire(type="uint16") | {"range": [-1, 5]}}), "points.one.range", "outside what uint16 can hold"),
        (document({"one": POINT | {"sentinels": [40000]}}), "points.one.sentinels[0]", "outside what int16 can hold"),
        (document({"one": POINT | {"sentinels": [1, 0.5]}}), "points.one.sentinels[1]", "no integer"),
        (document({"one": POINT | {"sentinels": [float("nan")]}}), "points.one.sentinels[0]", "no integer"),
        (document({"one": POINT | {"kind": "text"}}), "points.one.kind", "no meaning for a whole int16"),
        (document({"one": POINT | {"kind": "bool"}}), "points.one.kind", "no meaning for a whole int16"),
        (document({"one": wire(type="bit", bit=3)}), "points.one.kind", "must be bool"),
        (document({"one": wire(type="bit") | {"kind": "bool"}}), "points.one.modbus.bit", "is missing"),
        (document({"one": wire(bit=16, type="bit") | {"kind": "bool"}}), "points.one.modbus.bit", "<= 15"),
        (document({"one": wire(bit=1) | {"kind": "bool"}}), "points.one.modbus.bit", "no meaning for type int16"),
        (document({"one": wire(table="coil")}), "points.one.modbus.type", "must be bit"),
        (document({"one": wire(table="coil", type="bit", bit=0) | {"kind": "bool"}}), "points.one.modbus.bit", "no meaning"),
        (
            document({"one": wire(table="coil", type="bit", byte_order="ABCD") | {"kind": "bool"}}),
            "points.one.modbus.byte_order",
            "no meaning",
        ),
        (document({"one": wire(table="coil", type="bit") | {"kind": "bool", "scale": 2}}), "points.one.scale", "no meaning"),
        (document({"one": wire(type="float64")}, modbus={"max_registers": 3}), "points.one.modbus.type", "needs 4 registers"),
        (
            document({"one": POINT | {"quality": [{"table": "holding", "address": 1, "states": {"x": "good"}}]}}),
            "points.one.quality[0].states.x",
            "no register value",
        ),
        (
            document({"one": POINT | {"quality": [{"table": "holding", "address": 1, "states": {"65536": "good"}}]}}),
            "points.one.quality[0].states.65536",
            "no register value",
        ),
        (
            document({"one": POINT | {"quality": [{"table": "holding", "address": 1, "states": {"0": "fine"}}]}}),
            "points.one.quality[0].states.0",
            "is not good",
        ),
        (
            document({"one": POINT | {"quality": [{"table": "holding", "address": 0, "states": STATES}]}}),
            "points.one.quality[0]",
            "is taken by points.one.modbus",
        ),
        (document({"one": POINT, "two": POINT}), "points.two.modbus", "holding 0 is taken by points.one.modbus"),
        (
            document({"one": wire(type="float64"), "two": wire(address=1), "three": wire(address=3)}),
            "points.three.modbus",
            "holding 3 is taken by points.one.modbus",
        ),
        (
            document({name: wire(type="bit", bit=3) | {"kind": "bool"} for name in ("one", "two")}),
            "points.two.modbus",
            "is taken by points.one.modbus",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_path(plain: dict[str, Any], path: str, reason: str) -> None:
    assert any(found[0] == path and reason in found[1] for found in problems(plain)), problems(plain)


@pytest.mark.parametrize(
    "points",
    [
        {f"bit{i}": wire(type="bit", bit=i) | {"kind": "bool"} for i in range(16)},
        {"one": POINT, "two": wire(table="input")},
        {"one": wire(type="int32"), "two": wire(address=2)},
        {
            name: wire(address=i) | {"quality": [{"table": "holding", "address": 2, "states": STATES}]}
            for i, name in enumerate(["a", "b"])
        },
        {"one": wire(type="uint16") | {"range": [0, 65535], "sentinels": [65535]}},
        {"one": wire(type="float32") | {"sentinels": [-9999.9, float("nan")]}},
        {"one": wire(table="discrete", type="bit") | {"kind": "bool"}},
    ],
)
def test_neighbours_that_do_not_overlap_are_fine(points: dict[str, Any]) -> None:
    assert set(parse(document(points)).points) == set(points)


def test_all_problems_of_a_file_come_at_once() -> None:
    plain = document({"one": wire(address=1.5), "two": wire(type="int24"), "3": POINT}, colour="red", interval_s=-1)
    del plain["source"]
    assert {path for path, _ in problems(plain)} == {
        "colour",
        "source",
        "interval_s",
        "points.one.modbus.address",
        "points.two.modbus.type",
        "points.3",
    }


def test_all_problems_of_a_folder_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "acme-1.yaml").write_bytes(written(document(source="")))
    (tmp_path / "acme-2.yaml").write_bytes(written(document(model="acme-3")))
    (tmp_path / "acme-4.yml").write_bytes(written(document(model="acme-4")))
    (tmp_path / "acme-5.yaml").write_text("a: [")
    (tmp_path / "acme-6.yaml").mkdir()
    with pytest.raises(SpecError) as caught:
        load.load_folder(tmp_path)
    assert [problem.file for problem in caught.value.problems] == [
        f"acme-{n}" for n in ("4.yml", "1.yaml", "2.yaml", "5.yaml", "6.yaml")
    ]


@pytest.mark.parametrize("folder", ["", "nowhere"])
def test_a_folder_without_specs_is_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(SpecError, match="holds no device spec"):
        load.load_folder(tmp_path / folder)


def test_a_process_reads_only_the_specs_it_uses(tmp_path: Path) -> None:
    (tmp_path / "acme-1.yaml").write_bytes(written(document()))
    (tmp_path / "acme-2.yaml").write_text("a: [")
    specs = load.Specs(tmp_path)
    assert (list(specs), len(specs), "acme-2" in specs, "acme-3" in specs) == (["acme-1", "acme-2"], 2, True, False)
    assert specs["acme-1"].model == "acme-1"
    assert specs["acme-1"] is specs["acme-1"]
    with pytest.raises(SpecError, match=r"acme-2\.yaml"):
        _ = specs["acme-2"]
    assert specs.get("acme-3") is None


# YAML


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: key 'a' stands twice"),
        ("a: {b: 1, b: 1}", "line 1: key 'b' stands twice"),
        ("a: &x [1]\nb: *x\n", "line 2: aliases are not allowed"),
        ("&x [*x]", "aliases are not allowed"),
        ("1: a", "key 1 is not text: put it in quotes"),
        ("[a]: b", "key ['a'] is not text"),
        ("? {a: 1}\n: b", "is not text"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: !!binary aGVsbG8=", "could not determine a constructor"),
        ("a: !!int x", "is not of its kind"),
        ("a: !!bool [1]", "is not of its kind"),
        ("a: " + "9" * 5000, "is not of its kind"),
        ("a: [", "line 1"),
        ("a: b: c", "line 1"),
        ("a: 1\n---\nb: 2\n", "line 2"),
        ("a: \x00", "not YAML"),
        ('a: "\\ud800"', "line 1: found invalid Unicode character escape code"),
        ('"\\udc00\\ud800": 1', "line 1: found invalid Unicode character escape code"),
        ("a: \ud800", "surrogates not allowed"),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_yaml_that_is_not_plain_is_refused_with_its_line(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        yaml12.parse(text)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("no: 1", {"no": 1}),
        ("a: [no, yes, on, off, y, True]", {"a": ["no", "yes", "on", "off", "y", "True"]}),
        ("a: [true, false, null, ~, ]", {"a": [True, False, None, None]}),
        ("a:", {"a": None}),
        ("a: [0x1F, 010, -5, +7]", {"a": [31, 10, -5, 7]}),
        ("a: [1.5, 1e3, .5, -2., .inf, -.inf]", {"a": [1.5, 1000.0, 0.5, -2.0, float("inf"), float("-inf")]}),
        ("a: 2026-01-02", {"a": "2026-01-02"}),
        ("a: 12:30:45", {"a": "12:30:45"}),
        ("a: <<", {"a": "<<"}),
        ("", None),
    ],
)
def test_words_mean_what_they_say(text: str, plain: Any) -> None:
    assert yaml12.parse(text) == plain


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_loader(content: bytes) -> None:
    with pytest.raises(SpecError):
        load.parse(content, "acme-1.yaml")


@given(st.text(alphabet=st.sampled_from(list("ab:[]{}!&*|>-'\"#%@`,?\n\t 0.~<=x\\é\x00")), max_size=80))
def test_no_yaml_text_crashes_the_loader(text: str) -> None:
    with pytest.raises(SpecError):
        load.parse(text.encode(), "acme-1.yaml")


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
FIELDS = [name for name in DeviceSpec.__struct_fields__ if name not in ("vendor", "title", "verified")]
BELOW = [
    "states",
    "table",
    "address",
    "mask",
    "over",
    "stride",
    "points",
    "versions",
    "base",
    "topic",
    "path",
    "safety",
    "modbus",
]
nested = st.dictionaries(st.sampled_from(BELOW), plain_values, max_size=4)


@given(
    st.dictionaries(st.sampled_from(FIELDS), plain_values | nested | st.lists(nested, max_size=3), max_size=3),
    st.dictionaries(st.sampled_from(Point.__struct_fields__), plain_values | nested, max_size=4),
    st.dictionaries(st.sampled_from(ModbusWire.__struct_fields__), plain_values, max_size=3),
)
def test_whatever_stands_in_a_spec_it_is_a_spec_or_refused(
    fields: dict[str, Any], point: dict[str, Any], registers: dict[str, Any]
) -> None:
    plain = document({"one": wire(**registers) | point}) | fields
    try:
        found = parse(plain).model
    except SpecError as error:
        found = str(error)
    assert found.startswith("acme-1")


numbers = st.integers(0, 300) | st.integers(-2, 70_000)
sound_wires = st.fixed_dictionaries(
    {"table": st.sampled_from(get_args(Table)), "address": numbers, "type": st.sampled_from(get_args(RawType))},
    optional={"bit": st.integers(0, 17), "mask": numbers, "length": st.integers(0, 126), "byte_order": st.sampled_from(ORDERS)},
)
raws = st.sampled_from(["0", "0x10", "65536", "x", "-1"])
sound_verdicts = st.fixed_dictionaries(
    {"states": st.just({"0": "good", "3": "bad:why"})},
    optional={"table": st.just("holding"), "address": numbers, "mask": numbers},
)
sound_points = st.fixed_dictionaries(
    {"modbus": sound_wires},
    optional={
        "kind": st.sampled_from(get_args(Kind)),
        "states": st.dictionaries(raws, st.sampled_from(["on", "off", ""]), max_size=3),
        "true_when": st.lists(raws, max_size=2),
        "range": st.tuples(numbers, numbers).map(list),
        "sentinels": st.lists(numbers | st.floats(), max_size=2),
        "quality": st.lists(sound_verdicts, max_size=2),
    },
)


def coherent(kinds: list[str], point: dict[str, Any], **registers: Any) -> st.SearchStrategy[dict[str, Any]]:
    fields = {"table": st.sampled_from(["holding", "input"]), "address": st.integers(0, 300), "type": st.sampled_from(kinds)}
    return st.fixed_dictionaries({"modbus": st.fixed_dictionaries(fields | registers)} | point)


ENUM = {"kind": st.just("enum"), "states": st.just({"0": "off", "0x01": "on"})}
TEST = {"kind": st.just("bool"), "true_when": st.just(["1"])}
points = st.one_of(
    coherent(["int16", "uint32", "float32", "uint64"], {}, byte_order=st.sampled_from(ORDERS)),
    coherent(["bit", "uint16"], {"kind": st.just("bool")}, bit=st.integers(0, 15)),
    coherent(["uint16"], ENUM, mask=st.integers(1, 0xFFFF)),
    coherent(["uint16"], TEST, mask=st.integers(1, 0xFFFF)),
    coherent(["string"], {"kind": st.just("text")}, length=st.integers(1, 20)),
    sound_points,
)
index = st.sampled_from(["loop", "detector"])
repeats = st.fixed_dictionaries(
    {
        "over": st.fixed_dictionaries({"loop": st.tuples(st.integers(0, 2), st.integers(1, 9)).map(list)})
        | st.dictionaries(index, st.tuples(numbers, numbers).map(list), max_size=2),
        "stride": st.fixed_dictionaries({"loop": st.integers(0, 40)}) | st.dictionaries(index, numbers, max_size=2),
        "points": st.dictionaries(st.sampled_from(["l{loop}", "m{loop}", "l{loop}_d{detector}"]), points, min_size=1, max_size=2),
    }
)


@settings(max_examples=300)  # one in seven is sound
@given(
    st.dictionaries(st.sampled_from(["one", "two"]), points, max_size=2),
    st.lists(repeats, max_size=2),
    st.sampled_from(["zero_based", "modicon"]),
)
def test_whatever_looks_like_a_spec_is_refused_or_decodes_what_its_plan_reads(
    points: dict[str, Any], over: list[Any], notation: str
) -> None:
    try:
        spec = parse(document(points, repeats=over, modbus={"addresses": notation}))
    except SpecError:
        return
    words = {(each.table, each.address + i): 1 for each in plan.requests(spec) for i in range(each.count)}
    found = decode.values(spec, words)
    assert [value.point for value in found] == list(spec.points)
    assert [value for value in found if value.why in ("not_read", "short")] == []


# the schema for editors


def test_the_schema_for_editors_is_current() -> None:
    assert schema.path().read_text(encoding="utf-8") == schema.text(), "run: python -m iotcore.specs.schema"


def test_the_schema_for_editors_accepts_the_shipped_specs_and_refuses_an_unknown_key() -> None:
    judge = jsonschema.Draft202012Validator(schema.schema())
    for path in sorted(load.shipped_folder().glob("*.yaml")):
        assert list(judge.iter_errors(yaml12.parse(path.read_text(encoding="utf-8")))) == []
    assert not judge.is_valid(document(colour="red"))
    assert not judge.is_valid(document({"one": wire(address=1.5)}))
    assert judge.is_valid(document())
