"""What must hold of the panels, detectors and signal controllers in particular, beyond their cases."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from iotcore.errors import Refused
from iotcore.reading import Quality, Value
from iotcore.specs import decode, encode, payload, plan, repeat
from iotcore.specs.model import DeviceSpec
from iotcore.specs.stuck import Stuck
from tests.support.shipped import SPECS

ROOT = Path(__file__).parents[2]
PANELS = ("notifier-modbus-gw", "honeywell-cgw-mb")
FIRE_TYPES = {0x10, 0xEA, 0xED}  # LS10015-000NF-E, table C.1: fire alarm; CO alarm and fire alarm; CO supervisory and fire alarm
ACTIVE = 0x0800  # bit 11, table 5.1


def one_detector(model: str) -> DeviceSpec:
    return repeat.narrow(SPECS[model], {"loop": (1, 1), "detector": (1, 1), "module": (1, 1)})


def by_point(values: tuple[Value, ...]) -> dict[str, Value]:
    return {value.point: value for value in values}


# panels: every word that a point can hold


@pytest.mark.parametrize("model", PANELS)
def test_fire_is_bit_11_and_a_fire_type_whatever_else_the_word_says(model: str) -> None:
    spec = one_detector(model)
    for word in range(0x10000):
        (fire,) = decode.values(spec, {("holding", 0): word}, points={"l1_d1_fire"})
        real = bool(word & ACTIVE) and word & 0xFF in FIRE_TYPES
        assert (fire.value is True and fire.quality is Quality.GOOD) == real, hex(word)


@pytest.mark.parametrize("model", PANELS)
def test_no_fire_is_said_only_of_a_point_that_is_there_and_whose_state_is_known(model: str) -> None:
    spec = one_detector(model)
    for kind in range(0x100):
        for upper in (0x00, 0x04, 0x08, 0x10, 0x14, 0x20, 0x28, 0xFF):
            word = upper << 8 | kind
            found = by_point(decode.values(spec, {("holding", 0): word}, points={"l1_d1_fire", "l1_d1_event"}))
            if found["l1_d1_fire"] == Value("l1_d1_fire", False):  # noqa: FBT003 - a value
                assert found["l1_d1_event"].quality is Quality.GOOD, hex(word)
            if kind == 0xFF:
                assert {value.why for value in found.values()} == {"not_present"}, hex(word)


@pytest.mark.parametrize("model", PANELS)
def test_a_simulated_detector_can_be_on_fire_and_in_trouble_and_then_be_taken_out(model: str) -> None:
    spec = one_detector(model)
    words = encode.image(spec, {"l1_d1_event": "fire", "l1_d1_trouble": True, "l1_d1_disabled": False})
    assert words["holding", 0] == 0x2810
    for patch in encode.patches(spec, "l1_d1_fire", value=False, quality="bad:not_present"):
        encode.merge(words, patch)
    assert by_point(decode.values(spec, words))["l1_d1_fire"].why == "not_present"
    for patch in encode.patches(spec, "l1_d1_fire", value=True):
        encode.merge(words, patch)
    assert by_point(decode.values(spec, words))["l1_d1_fire"] == Value("l1_d1_fire", True)  # noqa: FBT003 - a value


def test_a_panel_is_read_in_a_request_for_each_hundred_points_and_never_across_unused_registers() -> None:
    groups = plan.groups(SPECS["notifier-modbus-gw"])
    assert [(each.lane, each.poll_s, len(each.requests)) for each in groups] == [("fire", 3, 41)]
    assert {each.count for each in groups[0].requests} == {100, 59, 1}
    fitted = repeat.narrow(SPECS["notifier-modbus-gw"], {"loop": (1, 2), "detector": (1, 60), "module": (1, 20)})
    assert [each.count for each in plan.groups(fitted)[0].requests] == [60, 20, 60, 20, 1]


def test_a_life_check_that_stands_still_takes_every_zone_with_it_until_it_moves_again() -> None:
    spec = repeat.narrow(SPECS["siemens-fc20-modbus"], {"zone": (1, 1), "element": (1, 1)})
    stuck = Stuck(spec)

    def zone(now_s: float, life_check: int) -> Value:
        words = encode.image(spec, {"life_check": float(life_check), "zone1_alarm": False, "element1_active": False})
        return by_point(stuck.judge(decode.values(spec, words), words, now_s))["zone1_alarm"]

    timeline = [(0.0, 7, ""), (58.0, 7, ""), (60.0, 7, ""), (62.0, 7, "life_check"), (64.0, 8, ""), (66.0, 8, "")]
    assert [(now_s, count, zone(now_s, count).why) for now_s, count, _ in timeline] == timeline


# Milesight: six bytes


def test_no_bit_of_a_lorawan_payload_can_fall_over_unseen() -> None:
    spec = SPECS["milesight-gs524n"]
    sent = bytes.fromhex("2211640C2934")
    for bit in range(48):
        flipped = bytearray(sent)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Refused, match="checksum"):
            payload.decode(spec, _as_network_server(bytes(flipped)))
    assert by_point(payload.decode(spec, _as_network_server(sent)).values)["alarm"] == Value("alarm", True)  # noqa: FBT003 - a value


def test_only_the_two_test_events_are_tests_and_only_alarm_and_silenced_are_fire() -> None:
    spec = SPECS["milesight-gs524n"]
    tests, fires = set(), set()
    for event in range(16):
        content = bytes([0x22, 0x10 | event, 100, 0, 28])
        found = payload.decode(spec, _as_network_server(content + bytes([-sum(content) % 256])))
        if found.test:
            tests.add(event)
        if by_point(found.values)["alarm"] == Value("alarm", True):  # noqa: FBT003 - a value
            fires.add(event)
    assert (tests, fires) == ({14, 15}, {1, 2})


def _as_network_server(content: bytes) -> bytes:
    return b'{"data":"' + base64.b64encode(content) + b'"}'


# signals: commands, and the page that describes the registers


@pytest.mark.parametrize("model", ["iotcore-mqtt-signal", "iotcore-modbus-signal"])
def test_a_signal_controller_takes_intents_and_each_remote_state_ends_by_itself(model: str) -> None:
    commands = SPECS[model].commands
    assert set(commands) - {"sequence", "time_to_live"} == {"plan", "offset", "priority", "preempt", "normal", "flash", "dark"}
    assert {name for name, each in commands.items() if each.safety == "two_person"} == {"flash", "dark"}
    assert {name for name, each in commands.items() if each.reverts_after_s is None} <= {"normal", "sequence", "time_to_live"}
    assert {name for name, each in commands.items() if each.reads_back is None} <= {"time_to_live"}


def test_both_signal_profiles_tell_and_take_the_same() -> None:
    one, other = SPECS["iotcore-mqtt-signal"], SPECS["iotcore-modbus-signal"]
    assert set(one.points) <= set(other.points)
    for name, point in one.points.items():
        twin_point = other.points[name]
        if name != "mode":  # text over MQTT, the same words as an enumeration over Modbus
            assert (point.kind, point.unit, point.range, point.title) == (
                twin_point.kind, twin_point.unit, twin_point.range, twin_point.title
            ), name  # fmt: skip
    for name, command in one.commands.items():
        twin = other.commands[name]
        assert (command.safety, command.range, command.reverts_after_s, command.reads_back) == (
            twin.safety, twin.range, twin.reverts_after_s, twin.reads_back
        ), name  # fmt: skip


def test_the_page_of_the_modbus_signal_profile_has_the_registers_of_the_spec() -> None:
    spec = SPECS["iotcore-modbus-signal"]
    page = (ROOT / "docs" / "modbus-signal-profile.md").read_text(encoding="utf-8")
    status, commands = page.split("## Commands", 1)
    told = {name: (int(first), int(bit) if bit else None) for first, bit, name in re.findall(
        r"^\| (\d+)(?: to \d+)?(?: bit (\d+))? \| `(\w+)`", status, re.MULTILINE
    )}  # fmt: skip
    stands = {name: (point.modbus.address, point.modbus.bit) for name, point in spec.points.items() if point.modbus}
    assert told == {name: place for name, place in stands.items() if not re.fullmatch(r"vehicles_(?!1$)\d+", name)}
    asked = re.findall(r"^\| (\d+) \| `(\w+)` \| .* \| (\w+) \| (?:(\d+) s )?\|$", commands, re.MULTILINE)
    assert {(name, int(register), safety, float(end or 0)) for register, name, safety, end in asked} == {
        (name, each.modbus.address, each.safety, each.reverts_after_s or 0.0)
        for name, each in spec.commands.items()
        if each.modbus
    }


def test_only_revision_2_of_the_modbus_signal_profile_says_what_became_of_a_command() -> None:
    spec = SPECS["iotcore-modbus-signal"]
    assert spec.firmware is not None
    page = (ROOT / "docs" / "modbus-signal-profile.md").read_text(encoding="utf-8")
    newer = set(re.findall(r"^\| [^|]+ \| `(\w+)` \| .* \| 2 \|$", page, re.MULTILINE))
    assert newer == set(spec.firmware.revisions[0].without)
