"""A device's fault is visible until the device shows the opposite."""

from __future__ import annotations

from msgspec import structs

from iotcore.journal.faults import MAX_STANDING, Faults
from iotcore.reading import Quality, Value
from iotcore.wire.arrival import Refusal
from tests.support.fire import reading


def test_a_bad_value_is_a_fault_until_that_point_is_good_again() -> None:
    faults = Faults()
    faults.accepted(reading(smoke=None))
    assert faults.standing("sd-0001") == {"bad:smoke:timeout"}
    faults.accepted(reading(seq=2, temperature=20.0))
    assert faults.standing("sd-0001") == {"bad:smoke:timeout"}
    faults.accepted(reading(seq=3, smoke=0.01))
    assert faults.standing("sd-0001") == frozenset()


def test_an_odd_clock_is_a_fault_until_it_is_plausible() -> None:
    faults = Faults()
    faults.accepted(structs.replace(reading(smoke=0.0), clock_fault="clock_past"))
    assert faults.standing("sd-0001") == {"clock_past"}
    faults.accepted(reading(seq=2, smoke=0.0))
    assert faults.standing("sd-0001") == frozenset()


def test_offline_ends_with_a_live_reading_and_not_with_backlog() -> None:
    faults = Faults()
    faults.offline("sd-0001")
    faults.accepted(structs.replace(reading(smoke=0.0), backlog=True))
    assert faults.standing("sd-0001") == {"offline"}
    faults.accepted(reading(seq=2, smoke=0.0))
    assert faults.standing("sd-0001") == frozenset()


def test_a_refused_message_of_a_known_device_is_its_fault() -> None:
    faults = Faults()
    faults.refused(Refusal("not_json", "", "t", "sd-0001", b"{"))
    faults.refused(Refusal("topic", "", "t", "", b""))
    assert faults.take() == ((("sd-0001", "refused:not_json"),), ())
    assert faults.take() == ((), ())


def test_what_was_raised_and_ended_in_one_batch_is_written_as_ended() -> None:
    faults = Faults([("sd-0001", "offline")])
    faults.offline("sd-0001")
    faults.online("sd-0001")
    assert faults.take() == ((), (("sd-0001", "offline"),))


def test_a_publisher_that_speaks_for_another_is_the_one_at_fault() -> None:
    faults = Faults()
    faults.refused(Refusal("wrong_publisher", "", "iot/v1/fire/intruder/up/reading/sd-0001", "sd-0001", b""))
    assert faults.standing("intruder") == {"refused:wrong_publisher"}
    assert faults.standing("sd-0001") == frozenset()


def test_a_device_that_invents_reasons_for_ever_fills_no_memory() -> None:
    faults = Faults()
    for number in range(1000):
        bad = Value("smoke", None, Quality.BAD, f"because {number}")
        faults.accepted(structs.replace(reading(seq=number + 1), told=(bad, Value(f"p{number}", None, Quality.BAD, "x" * 500))))
    assert len(faults.standing("sd-0001")) <= MAX_STANDING
    assert max(map(len, faults.standing("sd-0001"))) < 100


def test_a_name_of_ours_stands_however_many_words_of_the_device_do() -> None:
    faults = Faults()
    for number in range(MAX_STANDING + 1):
        faults.accepted(structs.replace(reading(seq=number + 1), told=(Value(f"p{number}", None, Quality.BAD, "timeout"),)))
    faults.note("sd-0001", "silent")
    faults.offline("sd-0001")
    assert {"silent", "offline"} <= faults.standing("sd-0001")


def test_what_others_know_stands_exactly_as_they_say_and_touches_nothing_else() -> None:
    faults = Faults([("d1", "offline"), ("d1", "certificate_ending"), ("d2", "cloned")])
    family = {"certificate_ending", "certificate_expired", "cloned"}
    assert faults.exactly([("d1", "certificate_expired")], family)
    raised, cleared = faults.take()
    assert raised == (("d1", "certificate_expired"),)
    assert set(cleared) == {("d1", "certificate_ending"), ("d2", "cloned")}
    assert faults.standing("d1") == {"offline", "certificate_expired"}
    assert not faults.exactly([("d1", "certificate_expired")], family)
    assert faults.take() == ((), ())
