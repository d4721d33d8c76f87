"""Scenarios of what stands between a decision and the people who must hear of it."""

from __future__ import annotations

from collections.abc import Iterator

from simulators.arc_receiver import Fault
from tests.timelines import deeds
from tests.timelines.city import REPLY_S, Setting
from tests.timelines.deeds import calm, smoke
from tests.timelines.notation import Row, Sight, Step, at, dc09, each, never, sight, want
from tests.timelines.rows_alarms import ANY_FIRE, CONFIRMED, FIRST

OPENED = sight("incident", "one incident", state="open")
AT_BACKUP = dc09("FA", "DC-09 FA at the alternate path", text="FIRE smoke", at="backup", account="1001")
BY_BACKUP = sight("acknowledged", "acknowledged by the alternate path", by="backup", event="alarm")
TOLD_AGAIN = dc09("FA", "DC-09 FA: told again, nobody has acknowledged", text="FIRE ALSO NOT ACKNOWLEDGED", at="arc")
ENDED = dc09("FH", "DC-09 FH: the fire is over", at="arc")
PATH_DOWN = sight("fault", "fault: no path to arc", device="path:arc", reason="path_down", stands=True)
UNDELIVERED = sight("fault", "fault: an undelivered fire", device="path:arc", reason="undelivered", stands=True)
RETRY_S = 0.5
BAD_CRCS, DUHS = [Fault.BAD_CRC] * 1000, [Fault.DUH] * 1000


def silent(*, stands: bool) -> Sight:
    return sight(
        "fault", f"sd-1-1 is {'silent: trouble' if stands else 'heard again'}", device="sd-1-1", reason="silent", stands=stands
    )


# What a receiver answers first, by when its right answer ends the delivery, and whether it has seen the fire before that.
HOSTILE: dict[str, tuple[Fault, float, bool]] = {
    "NAK with its time: resynchronised and sent again at once": (Fault.NAK, 0.1, False),
    "NAK without a time": (Fault.NAK_WITHOUT_TIME, RETRY_S, False),
    "DUH": (Fault.DUH, RETRY_S, False),
    "nothing": (Fault.SILENCE, REPLY_S + RETRY_S, True),
    "an ACK with a wrong CRC": (Fault.BAD_CRC, RETRY_S, True),
    "an ACK of another number": (Fault.WRONG_NUMBER, RETRY_S, True),
    "an ACK of another account": (Fault.WRONG_ACCOUNT, RETRY_S, True),
    "an ACK of another receiver number": (Fault.WRONG_RECEIVER, RETRY_S, True),
    "an ACK of another line": (Fault.WRONG_LINE, RETRY_S, True),
    "something that is no frame": (Fault.GARBAGE, RETRY_S, False),
    "the end of the connection: a new one at once": (Fault.CLOSE, 0.1, False),
    "its ACK twice": (Fault.TWICE, 0.1, True),
}


def hostile() -> Iterator[Row]:
    """One row for each answer: only a valid, matching acknowledgement ends the delivery."""
    seen = dc09("FA", "DC-09 FA at the receiver", at="arc", account="1001")
    for answer, (fault, late_s, taken) in HOSTILE.items():
        by_s = 1.0 + late_s + 0.1
        hedged = [want(4.4, AT_BACKUP, after_s=4.0), want(4.4, BY_BACKUP, after_s=4.0)] if late_s > 3.0 else []
        yield Row(12, f"the receiver answers {answer}", Setting(arc_faults=[fault]), [
            at(1.0, smoke("sd-1-1")),
            want(1.1 if taken else by_s, seen, again=True),
            *hedged,
            *([never(CONFIRMED, 0.0, 1.0 + late_s / 2.0)] if late_s > 0.1 else []),
            want(by_s, CONFIRMED),
            want(1.1, OPENED),
        ], end_s=15.0)  # fmt: skip


def storm(premises: int, detectors: int) -> Row:
    """Every building's first alarm goes out, and nothing twice."""
    first = [
        want(4.0, dc09("FA", f"DC-09 FA of account {1000 + n}", account=f"{1000 + n}", text="FIRE smoke"))
        for n in range(1, premises + 1)
    ]
    setting = Setting(premises=premises, detectors=detectors, watches=False, lean=True)
    more = dc09("FA", "the further points", text="FIRE ALSO")
    name = f"{premises * detectors:,} points in {premises} buildings"
    return Row(15, name, setting, [at(1.0, deeds.storm(premises, detectors, 5)), *first], end_s=4.0, besides=[more])


def episode(told_s: float = 1.1) -> list[Step]:
    """A fire, taken by a person and reset, while a replica stands still; and its detector goes on."""
    return [
        at(1.0, smoke("sd-1-1")),
        want(told_s, FIRST),
        want(1.1, OPENED),
        at(10.0, deeds.act("acknowledge")),
        at(30.0, calm("sd-1-1")),
        at(60.0, deeds.act("reset")),
        want(60.5, ENDED),
        never(OPENED, 60.0),
        at(305.0, calm("sd-1-1")),
    ]


ROWS = [
    Row(11, "kill -9 between persist and send", Setting(), [
        at(0.5, deeds.doom(1, "when the incident is durable, before anything is sent")),
        at(1.0, smoke("sd-1-1")),
        want(1.1, OPENED),
        never(ANY_FIRE, 0.0, 2.9),
        at(3.0, deeds.start()),
        want(4.5, FIRST),
        want(4.5, CONFIRMED),
    ], end_s=12.0),
    Row(11, "kill -9 between send and ACK", Setting(arc_faults=[], reply_s=1.0), [
        at(1.0, smoke("sd-1-1")),
        want(1.1, dc09("FA", "DC-09 FA at the receiver", at="arc"), again=True),
        want(1.1, OPENED),
        at(1.5, deeds.kill()),
        at(2.0, deeds.start()),
        never(CONFIRMED, 0.0, 2.9),
        want(5.0, CONFIRMED),
    ], end_s=12.0),
    Row(11, "one of two is killed between persist and send", Setting(replicas=2), [
        at(0.5, deeds.doom(1, "when the incident is durable, before anything is sent")),
        at(1.0, smoke("sd-1-1")),
        want(1.1, OPENED),
        want(2.4, FIRST),
        want(2.5, CONFIRMED),
    ], end_s=12.0),
    *hostile(),
    Row(12, "pysiaalarm answers NAK with its own time, four days off", Setting(strict_time=True), [
        at(1.0, smoke("sd-1-1")),
        want(1.1, FIRST),
        want(1.1, CONFIRMED),
    ]),
    Row(12, "the receiver never answers rightly: the other path, and both are tried on", Setting(arc_faults=BAD_CRCS), [
        at(1.0, smoke("sd-1-1")),
        want(1.1, dc09("FA", "DC-09 FA at the receiver", at="arc"), again=True),
        want(4.4, AT_BACKUP, after_s=4.0),
        want(4.4, BY_BACKUP, after_s=4.0),
        at(10.0, deeds.act("acknowledge")),
        never(CONFIRMED),
        never(sight("fault", "a fault of delivery", reason="undelivered")),
    ], end_s=110.0),
    Row(12, "the only receiver never understands: told again, then a fault", Setting(arc_faults=DUHS, alternate=False), [
        at(1.0, smoke("sd-1-1")),
        want(31.9, sight("story", "escalated: nobody has acknowledged", what="escalated"), after_s=31.0),
        want(103.0, UNDELIVERED, after_s=101.0),
        want(103.0, sight("loud", "said loudly: NOT DELIVERED", said="NOT DELIVERED to arc"), after_s=101.0),
        never(CONFIRMED),
    ], end_s=105.0),
    Row(13, "the primary path is a black hole", Setting(premises=2), [
        at(0.5, deeds.dark("arc")),
        at(1.0, smoke("sd-1-1")),
        want(4.4, AT_BACKUP, after_s=4.0),
        at(10.0, deeds.act("acknowledge")),
        want(90.0, PATH_DOWN),
        want(90.0, sight("loud", "said loudly: NO PATH", said="NO PATH to arc")),
        at(91.0, smoke("sd-2-1")),
        want(91.3, dc09("FA", "DC-09 FA at the alternate, at once", account="1002", at="backup")),
    ], end_s=95.0),
    Row(13, "both paths are black holes, and come back", Setting(), [
        at(0.5, deeds.dark("arc", "backup")),
        at(1.0, smoke("sd-1-1")),
        at(10.0, deeds.act("acknowledge")),
        want(90.0, PATH_DOWN),
        want(90.0, sight("fault", "fault: no path to backup", device="path:backup", reason="path_down", stands=True)),
        want(103.0, sight("loud", "said loudly: NOT DELIVERED", said="NOT DELIVERED to arc"), after_s=101.0),
        never(ANY_FIRE, 0.0, 109.9),
        at(110.0, deeds.lit("arc", "backup")),
        want(126.0, FIRST),
        want(126.0, AT_BACKUP),
        want(126.0, sight("fault", "the fault of delivery is over", device="path:arc", reason="undelivered", stands=False)),
    ], end_s=130.0),
    Row(14, "a heartbeat is lost", Setting(detectors=1), [
        each(0.0, 30.0, 10.0, calm("sd-1-1")),
        never(silent(stands=True), 0.0, 129.9),
        want(132.0, silent(stands=True), after_s=130.0),
        at(140.0, calm("sd-1-1")),
        want(141.0, silent(stands=False)),
        never(ANY_FIRE),
    ]),
    Row(14, "a heartbeat is lost across a restart", Setting(detectors=1), [
        each(0.0, 30.0, 10.0, calm("sd-1-1")),
        at(80.0, deeds.kill()),
        at(83.0, deeds.start()),
        want(135.0, silent(stands=True), after_s=130.0),
    ], end_s=140.0),
    storm(200, 50),
    Row(18, "nobody acknowledges", Setting(), [
        at(1.0, smoke("sd-1-1")),
        want(1.1, FIRST),
        want(31.9, TOLD_AGAIN, after_s=31.0),
        want(31.9, sight("story", "escalated, on record", what="escalated"), after_s=31.0),
        at(40.0, deeds.act("acknowledge")),
        never(TOLD_AGAIN, 40.0),
    ], end_s=125.0),
    Row(18, "somebody acknowledges in time", Setting(), [
        at(1.0, smoke("sd-1-1")),
        want(1.1, FIRST),
        at(30.0, deeds.act("acknowledge")),
        want(30.5, sight("story", "acknowledged, on record", what="acknowledged", by="dispatcher")),
    ], end_s=125.0),
    Row(18, "the process is killed while it waits for an answer", Setting(), [
        at(1.0, smoke("sd-1-1")),
        want(1.1, FIRST),
        at(20.0, deeds.kill()),
        at(25.0, deeds.start()),
        want(32.5, TOLD_AGAIN, after_s=31.0),
    ], end_s=40.0),
    Row(21, "the journal refuses", Setting(), [
        at(0.5, deeds.disk(full=True)),
        at(1.0, smoke("sd-1-1")),
        want(1.5, dc09("FA", "DC-09 FA, by the emergency log's own number", number="9000", at="arc")),
        want(1.5, sight("loud", "said loudly: JOURNAL STALLED", said="JOURNAL STALLED"), after_s=0.0),
        never(OPENED, 0.0, 9.9),
        at(10.0, deeds.disk(full=False)),
        want(13.0, OPENED),
        want(13.0, sight("story", "taken over, on record", what="reconciled")),
        want(13.0, CONFIRMED),
    ], end_s=25.0),
    Row(21, "the journal refuses and the process is killed", Setting(), [
        at(0.5, deeds.disk(full=True)),
        at(1.0, smoke("sd-1-1")),
        want(1.5, dc09("FA", "DC-09 FA, by the emergency log's own number", number="9000", at="arc")),
        at(3.0, deeds.kill()),
        at(4.0, deeds.disk(full=False)),
        at(4.0, deeds.start()),
        want(7.0, OPENED),
    ], end_s=20.0),
    Row(22, "a replica stands still for five minutes, across a reset", Setting(replicas=2), [
        at(0.9, deeds.stall(2, 300.0)),
        *episode(),
    ], end_s=312.0),
    Row(22, "one of two stands still in the middle of its commit, which the other's joins", Setting(replicas=2), [
        at(1.0023, deeds.stall(1, 300.0)),
        *episode(2.1),
    ], end_s=312.0),
    Row(22, "one of two stands still in the middle of its commit, which joins the other's", Setting(replicas=2), [
        at(1.0023, deeds.stall(2, 300.0)),
        *episode(1.1),
    ], end_s=312.0),
    Row(22, "and it can raise again afterwards, alone", Setting(replicas=2), [
        at(0.9, deeds.stall(2, 20.0)),
        at(1.0, smoke("sd-1-1")),
        want(1.1, FIRST),
        at(5.0, calm("sd-1-1")),
        at(10.0, deeds.act("reset")),
        want(10.5, ENDED),
        at(25.0, deeds.kill(1)),
        at(26.0, smoke("sd-1-1")),
        want(26.1, FIRST),
    ]),
]  # fmt: skip
