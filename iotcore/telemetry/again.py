"""Again: what a turn of the telemetry lane gathers, and what it takes in of a row of the quarantine that a person tries again.

What the row was kept for is stored, though it counts as handled; anything else of it only if it is new. A line that a store had
refused goes back to the store that it was for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from iotcore.journal.progress import Stage
from iotcore.journal.retry import Answer, Tried
from iotcore.reading import Reading
from iotcore.registry.directory import Binding, Directory
from iotcore.wire import topics
from iotcore.wire.arrival import Refusal


@dataclass(slots=True)
class Turn:
    """What one turn gathers before its commit."""

    stage: Stage
    now_s: float
    lines: list[bytes] = field(default_factory=list)
    confidential: list[bytes] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    duplicates: int = 0
    throttled: int = 0
    settled: tuple[int, ...] = ()  # rows of the quarantine that are tried again
    returned: list[Refusal] = field(default_factory=list)  # what of them is refused again
    durable: asyncio.Event = field(default_factory=asyncio.Event)


def take(
    one: Tried,
    turn: Turn,
    directory: Directory,
    *,
    lines: Mapping[str, list[bytes]],
    record: Callable[[Reading, Binding, Turn], None],
    answer: Answer,
) -> None:
    """Take a row in, or say in `answer` why it is left. `lines` are those of each store by the format that it takes."""
    row = one.row
    if not one.readings:
        if row.topic not in lines:
            answer.leave(row, "other_store", f"a line of the format {row.topic!r}, which no store takes now")
            return
        lines[row.topic].append(one.line)
        turn.settled += (row.id,)
        answer.stored += 1
        return
    binding = directory.devices[one.readings[0].device]  # all readings of a row are of one device
    if binding.domain == topics.FIRE_DOMAIN:
        answer.leave(row, "wrong_broker", f"{binding.device} belongs on the fire broker")
        return
    turn.settled += (row.id,)
    turn.returned += one.refusals
    for reading in one.readings:
        new = turn.stage.take(reading.device, reading.boot, reading.seq)
        if new or (reading.boot, reading.seq) in row.identities or row.reason == "unknown_point":
            record(reading, binding, turn)
            answer.stored += 1
        else:
            answer.repeats += 1
