"""Deadlines: when which rule of which device is looked at again though nothing is heard. Pure: times of the caller's clock."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from iotcore.alarms.engine_memory import Ref
from iotcore.reading import Reading

SLACK = 1_000  # entries that may be out of date before the heap is made anew
TURN_MAX = 500  # looks of one tick: a storm of deadlines is taken in turns, and what is left is due at once


class Deadline(NamedTuple):
    """When it is due; the time on the device's timeline that this stands for; and the reading that armed it."""

    due_s: float
    at_s: float
    reading: Reading
    lasting: bool  # kept over a restart: not one that each reading puts off


class Deadlines:
    """One for each rule of a track at most; putting one off costs an entry in a dictionary."""

    def __init__(self) -> None:
        self._due: dict[Ref, Deadline] = {}
        self._queued: dict[Ref, float] = {}
        self._heap: list[tuple[float, Ref]] = []

    def __len__(self) -> int:
        return len(self._due)

    def get(self, ref: Ref) -> Deadline | None:
        """The deadline of a rule of a track."""
        return self._due.get(ref)

    def set(self, ref: Ref, deadline: Deadline) -> None:
        """In place of the one before."""
        self._due[ref] = deadline
        queued = self._queued.get(ref)
        if queued is None or deadline.due_s < queued:
            self._queued[ref] = deadline.due_s
            heappush(self._heap, (deadline.due_s, ref))
            if len(self._heap) > 2 * len(self._due) + SLACK:
                self._renew()

    def drop(self, ref: Ref) -> None:
        """There is none any more."""
        self._due.pop(ref, None)

    def take(self, now_s: float) -> Iterator[tuple[Ref, Deadline]]:
        """Those that are due, earliest first, each taken away as it is handed over; at most `TURN_MAX`."""
        for _ in range(TURN_MAX):
            found = self._next()
            if found is None or found[0] > now_s:
                return
            due_s, ref = heappop(self._heap)
            del self._queued[ref]
            yield ref, self._due.pop(ref)
            assert due_s <= now_s

    def next_s(self) -> float | None:
        """When the next one is due."""
        found = self._next()
        return None if found is None else found[0]

    def items(self) -> Iterator[tuple[Ref, Deadline]]:
        """All of them, in no order."""
        yield from self._due.items()

    def _next(self) -> tuple[float, Ref] | None:
        """The earliest that still stands; what was dropped or put off before it is put right."""
        heap = self._heap
        while heap:
            due_s, ref = heap[0]
            deadline = self._due.get(ref)
            if self._queued.get(ref) == due_s and deadline is not None and deadline.due_s <= due_s:
                return heap[0]
            heappop(heap)
            if self._queued.get(ref) == due_s:
                del self._queued[ref]
                if deadline is not None:
                    self._queued[ref] = deadline.due_s
                    heappush(heap, (deadline.due_s, ref))
        return None

    def _renew(self) -> None:
        self._queued = {ref: deadline.due_s for ref, deadline in self._due.items()}
        self._heap = [(due_s, ref) for ref, due_s in self._queued.items()]
        heapify(self._heap)
