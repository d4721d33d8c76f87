"""Timelines of dispatch by DC-09: whatever a receiver answers, whatever becomes of a path, the fire arrives, as one incident."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulators.arc_receiver import ArcReceiver, Fault
from tests.support.stage import LIMIT_S, REPLY_S, UNDELIVERED_MS, stage

RETRY_S = 0.25  # half a second less all of its jitter
SLACK_S = 0.4  # a busy machine


def codes(receiver: ArcReceiver, incident: str) -> list[tuple[str, int]]:
    """Code and number of what a receiver has heard of an incident."""
    return [(event.code, event.number) for event in receiver.received if event.incident == incident]


@pytest.mark.parametrize(
    ("answer", "late_s"),
    [
        (Fault.NONE, 0.0),
        (Fault.NAK, 0.0),  # with its time: resynchronised and sent again at once
        (Fault.TWICE, 0.0),
        (Fault.DUH, RETRY_S),
        (Fault.NAK_WITHOUT_TIME, RETRY_S),
        (Fault.BAD_CRC, RETRY_S),
        (Fault.WRONG_NUMBER, RETRY_S),
        (Fault.WRONG_ACCOUNT, RETRY_S),
        (Fault.CLOSE, RETRY_S),
        (Fault.GARBAGE, RETRY_S),
        (Fault.SILENCE, REPLY_S + RETRY_S),
        (Fault.LATE, REPLY_S + RETRY_S),
    ],
)
async def test_smoke_at_0_1_s_whatever_is_answered_first_is_acknowledged_with_its_number_and_never_twice_as_another(
    tmp_path: Path, answer: Fault, late_s: float
) -> None:
    async with stage(tmp_path / "journal.db", ArcReceiver(faults=[answer])) as play:
        await play.at(0.1)
        incident = play.smoke()
        await play.want(lambda: bool(play.arc.frames), 0.1 + SLACK_S)
        done_s = await play.want(lambda: play.deliveries(incident)["arc"].acknowledged_ms is not None, 0.1 + late_s + SLACK_S)
        assert done_s >= 0.1 + late_s
        await play.at(done_s + 0.3)
        told = codes(play.arc, incident)
        assert set(told) == {("FA", 1)}
        assert set(play.arc.incidents) == {f"{incident} FA"}  # one incident, however often it was told
        assert (play.deliveries(incident)["arc"].reply, len(play.backup.frames)) == ("ACK 0001", 0)


@pytest.mark.parametrize("answer", [Fault.DUH, Fault.SILENCE, Fault.BAD_CRC, Fault.WRONG_NUMBER, Fault.NAK])
async def test_smoke_that_its_receiver_never_acknowledges_is_at_the_alternate_after_the_hedge_and_both_are_tried_on(
    tmp_path: Path, answer: Fault
) -> None:
    async with stage(tmp_path / "journal.db", ArcReceiver(faults=[answer] * 1000), hedge_s=0.6) as play:
        incident = play.smoke()
        hedged_s = await play.want(lambda: bool(play.backup.received), 0.6 + SLACK_S)
        assert hedged_s >= 0.6
        assert codes(play.backup, incident) == [("FA", 1)]
        before = len(play.arc.frames)
        await play.want(lambda: len(play.arc.frames) > before, hedged_s + 3.0)
        told = play.deliveries(incident)
        assert (told["backup"].reply, told["arc"].acknowledged_ms) == ("ACK 0001", None)
        assert told["arc"].last_error
        await play.at(UNDELIVERED_MS / 1000.0 + 0.5)
        assert play.faults() == set()  # either path's acknowledgement counts
        play.arc.faults.clear()
        await play.want(lambda: play.deliveries(incident)["arc"].acknowledged_ms is not None, play.now_s + 6.0)
        assert {event.incident for event in (*play.arc.received, *play.backup.received)} == {incident}


async def test_a_black_holed_receiver_smoke_at_0_s_want_the_alternate_to_have_it_between_3_and_3_4_s(tmp_path: Path) -> None:
    arc = ArcReceiver()
    arc.silent = True
    async with stage(tmp_path / "journal.db", arc) as play:
        incident = play.smoke()
        assert await play.want(lambda: bool(play.backup.received), 3.4) >= 3.0
        assert codes(play.backup, incident) == [("FA", 1)]


async def test_a_path_goes_dark_both_go_dark_and_they_come_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with stage(tmp_path / "journal.db", ArcReceiver(), supervised=True) as play:
        await play.want(lambda: play.arc.link_tests >= 2 and play.backup.link_tests >= 2, 2.0)
        assert play.faults() == set()
        play.arc.silent = True
        dark_s = play.now_s
        await play.want(lambda: ("path:arc", "path_down") in play.faults(), dark_s + LIMIT_S + SLACK_S)
        await play.want(lambda: play.paths.down("arc"), play.now_s + SLACK_S)
        assert play.faults() == {("path:arc", "path_down")}
        assert "NO PATH to arc" in caplog.text

        first = play.smoke("p1")  # the path is known to be dead: nobody waits three seconds
        at_s = play.now_s
        await play.want(lambda: codes(play.backup, first) == [("FA", 1)], at_s + SLACK_S)

        play.backup.silent = True
        await play.want(lambda: {"path:backup"} <= {device for device, _ in play.faults()}, play.now_s + LIMIT_S + 1.0)
        assert "NO PATH to backup" in caplog.text
        second = play.smoke("p2")
        await play.want(lambda: ("path:arc", "undelivered") in play.faults(), play.now_s + UNDELIVERED_MS / 1000.0 + 1.0)
        assert "NOT DELIVERED to arc" in caplog.text

        play.arc.silent = play.backup.silent = False
        await play.want(
            lambda: all(told.acknowledged_ms is not None for one in (first, second) for told in play.deliveries(one).values()),
            play.now_s + 10.0,
        )
        await play.want(lambda: play.faults() == set(), play.now_s + 3.0)
        assert set(codes(play.arc, first)) == set(codes(play.backup, first)) == {("FA", 1)}
