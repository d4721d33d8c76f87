"""Retry: what a person asks of the quarantine, and how its rows become arrivals again. Only the lane that owns the file acts.

CLI ── intent (registry) ──► lane: rows ──► decode with the specs and bindings of now ──► backlog of its true age
 ▲                                                                                          │
 └── quarantine_answer (the lane's file) ◄── row removed, in the transaction that stores ◄──┘
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec
from msgspec import structs

from iotcore.journal.progress import Stage
from iotcore.journal.quarantine import STORE_REJECTED, Row, Wanted
from iotcore.reading import Reading
from iotcore.registry.directory import Directory
from iotcore.wire.arrival import Arrival, Decoded, Refusal

PAGE_ROWS = 200  # rows tried in one commit
MAX_TOLD = 50  # rows that an answer tells of one by one
Verb = Literal["retry", "drop"]

Decode = Callable[[Arrival, Directory, float], Decoded]


class Left(msgspec.Struct, frozen=True):
    """A row that stays where it is, and why."""

    id: int
    reason: str
    detail: str


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """A row that was decoded anew: what it holds now, and what of it is refused still."""

    row: Row
    readings: tuple[Reading, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    line: bytes = b""  # of a line that the store had refused


class Answer(msgspec.Struct, kw_only=True):
    """What became of a request."""

    removed: int = 0  # rows
    stored: int = 0  # readings and lines
    repeats: int = 0  # readings that had come again meanwhile
    alarms: list[str] = []  # rules that raised, with their device
    left: list[Left] = []
    left_count: int = 0

    def leave(self, row: Row, reason: str, detail: str) -> None:
        """Count a row that stays."""
        self.left_count += 1
        if len(self.left) < MAX_TOLD:
            self.left.append(Left(row.id, reason, detail))


class Quarantined(Protocol):
    """What a lane lets a person do with its quarantine."""

    async def rows(self, wanted: Wanted, limit: int, after: int) -> list[Row]:
        """Rows that are meant, with larger numbers than `after`."""

    async def drop(self, wanted: Wanted) -> int:
        """Remove what is meant; how many rows there were."""

    async def retry(self, rows: Sequence[Row], answer: Answer) -> None:
        """Try rows again; say in `answer` what became of them."""


def asked(lane: str, key: str) -> Wanted | None:
    """The rows that an intent's key means, if it is for this lane; None for another's, or one that we cannot read."""
    try:
        wanted = msgspec.json.decode(key, type=Wanted)
    except msgspec.DecodeError:
        return None
    return wanted if wanted.lane == lane else None


def handled(refusal: Refusal, stage: Stage) -> Refusal:
    """What its own device will never get accepted counts as handled, so that its receipts go on.

    The refusal then stands for those numbers that were new; a message that is sent again stands for none.
    """
    fresh = tuple((boot, seq) for boot, seq in refusal.identities if stage.take(refusal.device, boot, seq))
    return structs.replace(refusal, identities=fresh)


def key_of(wanted: Wanted) -> str:
    """The key of an intent that `asked` reads."""
    return msgspec.json.encode(wanted).decode()


async def carry_out(verb: Verb, wanted: Wanted, lane: Quarantined) -> Answer:
    """Drop the rows that are meant, or try them again a page at a time."""
    answer = Answer()
    if verb == "drop":
        answer.removed = await lane.drop(wanted)
        return answer
    last = 0
    while rows := await lane.rows(wanted, PAGE_ROWS, last):
        await lane.retry(rows, answer)
        last = rows[-1].id
    return answer


def tried(rows: Sequence[Row], decode: Decode, directory: Directory, now_ms: float, answer: Answer) -> list[Tried]:
    """Decode rows anew; what cannot be used now either is left, and said so in `answer`."""
    done = []
    for row in rows:
        if row.unfit:
            answer.leave(row, "unfit", row.unfit)
            continue
        if row.reason == STORE_REJECTED:
            done.append(Tried(row=row, line=row.payload))
            continue
        received_ms = row.received_ms or row.at_ms
        decoded = decode(Arrival(row.topic, row.payload, retained=False, received_ms=received_ms), directory, received_ms)
        if decoded.readings:
            readings = tuple(aged(one, now_ms - received_ms) for one in decoded.readings)
            refusals = tuple(structs.replace(one, identities=()) for one in decoded.refusals)
            done.append(Tried(row=row, readings=readings, refusals=refusals))
        elif decoded.refusals:
            answer.leave(row, decoded.refusals[0].reason, decoded.refusals[0].detail)
        else:
            answer.leave(row, "not_a_reading", "a status or a result is of its moment; drop it")
    return done


def aged(reading: Reading, held_ms: float) -> Reading:
    """The reading as its outbox would tell it that had held it back so long: never live, never with the time of now."""
    return structs.replace(reading, backlog=True, age_ms=reading.age_ms + max(0, int(held_ms)))
