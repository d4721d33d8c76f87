"""What the YAML cases of air and water models cannot show: one place of two fitted, and a unit that answers from memory."""

from __future__ import annotations

from iotcore.reading import Quality, Value
from iotcore.specs import decode, encode, plan, repeat
from iotcore.specs.stuck import Stuck
from tests.support.shipped import SPECS


def test_a_sensornet_with_its_turbidity_sensor_in_place_two_asks_as_the_manual_does_and_reads_its_answer() -> None:
    """YSI ba76025e01, 7.5: query 0008h, answer 02 02 04 01 00 00 00 14 42 9E 46 C2, 79.1382 FNU."""
    spec = repeat.narrow(SPECS["ysi-iq-sensornet"], {"sensor": (2, 2)})
    assert [(each.table, each.address) for each in plan.requests(spec)] == [("input", 8)]
    answer = bytes.fromhex("0202 0401 0000 0014 429E 46C2")
    words = {("input", 8 + i): int.from_bytes(answer[2 * i : 2 * i + 2], "big") for i in range(len(answer) // 2)}
    (found,) = decode.values(spec, words)  # type: ignore[arg-type]
    assert (found.point, found.quality) == ("turbidity_s2", Quality.GOOD)
    assert isinstance(found.value, float)
    assert round(found.value, 4) == 79.1382


def test_an_oxygen_sensor_whose_clock_stands_still_has_nothing_good() -> None:
    spec = SPECS["xylem-odo"]
    stuck = Stuck(spec)
    image = encode.image(spec, {name: point.range[0] for name, point in spec.points.items() if point.range})
    limit_s = spec.points["uptime_s"].stuck_after_s
    assert limit_s is not None
    for now_s in (0.0, 60.0, limit_s):
        assert {value.quality for value in stuck.judge(decode.values(spec, image), image, now_s)} == {Quality.GOOD}
    values = {value.point: value for value in stuck.judge(decode.values(spec, image), image, limit_s + 60.0)}
    assert values["dissolved_oxygen"] == Value("dissolved_oxygen", 0.0, Quality.BAD, "life_check")
    assert values["uptime_s"].why == "stuck"
    moved = image | encode.image(spec, {"uptime_s": 241.0})
    values = {value.point: value for value in stuck.judge(decode.values(spec, moved), moved, limit_s + 120.0)}
    assert {value.quality for value in values.values()} == {Quality.GOOD}


def test_the_verdicts_and_the_value_of_one_sensor_come_in_one_request_where_they_are_of_one_table() -> None:
    for model in ("endress-liquiline-cm44x", "in-situ-aqua-troll-400", "ysi-iq-sensornet", "hach-ss7sc", "hach-nitratax"):
        for name in SPECS[model].points:
            assert sum(name in each.points for each in plan.requests(SPECS[model])) == 1, (model, name)


def test_notation_from_one_is_stored_from_nought() -> None:
    """The documents of these five count registers from 1."""
    first = {"siemens-qsa2700d": 256, "hach-ss7sc": 0, "hach-tss-sc": 0, "hach-3400sc": 2, "hach-nitratax": 0}
    assert {model: plan.requests(SPECS[model])[0].address for model in first} == first
