"""What the doctor says of silence."""

from __future__ import annotations

from iotcore.commands.doctor_supervision import of, told


def test_the_first_ten_that_are_silent_or_weakly_supervised_are_named_and_all_are_counted() -> None:
    first = [f"sd-{i:02}" for i in range(10)]
    well, said = told({"silent": 12, "silent_first": first, "weak": 1, "weak_first": ["z-1"]})
    assert not well
    assert said.startswith("12 silent: sd-00, sd-01")
    assert "sd-09 and 2 more; 1 weakly supervised (noticed after more than 300 s): z-1" in said


def test_weakly_supervised_devices_are_told_and_are_no_trouble() -> None:
    assert told({"silent": 0, "silent_first": [], "weak": 0, "weak_first": []}) == (True, "every active fire device is heard")
    well, said = told({"silent": 0, "silent_first": [], "weak": 2, "weak_first": ["z-1", "z-2"]})
    assert well
    assert "2 weakly supervised (noticed after more than 300 s): z-1, z-2" in said


def test_of_several_fire_processes_the_one_that_misses_most_is_heard() -> None:
    deaf, hears = {"silent": 0}, {"silent": 3}
    assert of({"fire-1": deaf, "fire-2": hears, "web": {"silent": 9}, "broker-fire": {"silent": 9}}) is hears
    assert of({"fire": {"pid": 1}, "keeper": {"pid": 2}}) is None
