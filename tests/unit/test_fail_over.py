"""When a simulated fire device says by HTTPS what MQTT does not answer."""

from __future__ import annotations

from math import inf
from pathlib import Path

from iotcore.wire.arrival import Endpoint
from iotcore.wire.messages import ReadingMessage
from simulators.fail_over import AT_ONCE, FailOver, Held

AT = Endpoint("127.0.0.1", 1, Path(), Path(), Path())


def held(made_s: float, seq: int = 1, kind: str = "reading") -> Held:
    return Held(ReadingMessage(boot="9f3c12ab", seq=seq, values={"alarm": True}), kind, made_s, made_s)


def test_a_report_without_a_receipt_goes_after_3_s_and_one_without_a_link_3_s_after_its_loss() -> None:
    way = FailOver(AT, lost_s=90.0)
    assert way.due_s(held(100.0), connected=True) == 103.0
    assert way.due_s(held(91.0), connected=False) == 93.0
    assert way.due_s(held(100.0), connected=False) == 100.0, "the link has been gone for long"
    assert way.due_s(held(80.0), connected=False) == 83.0, "it waits since before the loss"


def test_while_mqtt_is_given_up_reports_go_at_once_and_none_again_before_its_pause() -> None:
    way = FailOver(AT, lost_s=0.0, active=True)
    one = held(100.0)
    assert way.due_s(one, connected=True) == 100.0
    one.post_s = 130.0
    assert way.due_s(one, connected=True) == 130.0
    assert way.next_s([one, held(120.0)], connected=True) == 120.0
    assert way.next_s([], connected=False) == inf


def test_a_post_is_of_one_kind_events_first_and_not_too_long() -> None:
    way = FailOver(AT, lost_s=0.0)
    waiting = {1: held(1.0), 2: held(2.0, 2, "event"), 3: held(3.0, 3), 4: held(9.9, 4)}
    assert [number for number, _ in way.due(waiting, 10.0, connected=True)] == [2]
    del waiting[2]
    assert [number for number, _ in way.due(waiting, 10.0, connected=True)] == [1, 3]
    many = {number: held(1.0, number) for number in range(1, AT_ONCE + 50)}
    assert len(way.due(many, 10.0, connected=True)) == AT_ONCE
