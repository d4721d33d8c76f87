"""Incidents and alarms as their pages show them, read from the journal at each request and never written.

A database may take its time: it is asked on a thread of its own, one question after the other, and the event loop goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from iotcore.errors import StoreError
from iotcore.journal import cad, case, drills, review
from iotcore.journal.case import Alarm, Case
from iotcore.journal.database import UNREADABLE, Connection, Place, is_there
from iotcore.journal.drills import Standing
from iotcore.journal.review import Devices, Review
from iotcore.off_loop import Threads
from iotcore.registry.directory import Directory, Walk
from iotcore.web.view import ReadOnlyFile, Shown

T = TypeVar("T")
MOST_WAITING = 64  # questions at once; each takes a statement's limit at worst (`journal.postgres`), and a person gives up sooner


class CaseView:
    """Questions to the journal. A journal that is not there yet knows nothing.

    Every method raises StoreError when the journal cannot be read, so that no page looks calm because it is blind, and when
    `MOST_WAITING` questions wait already.
    """

    def __init__(self, journal: Place, directory: Callable[[], Directory]) -> None:
        self._journal = ReadOnlyFile(journal)
        self._directory = directory
        self._thread = Threads("journal-of-pages", most=MOST_WAITING)

    async def close(self) -> None:
        """Let go of the file, after what is being read."""
        await self._thread(self._journal.close)
        self._thread.close()

    async def case(self, incident: str, now_ms: float) -> Case | None:
        """Everything about one incident; None when it is unknown."""
        return await self.asked(lambda connection: case.read(connection, incident, now_ms), None)

    async def premises(self, incident: str) -> str:
        """Where an incident is, or was; "" for an unknown one."""
        return await self.asked(lambda connection: review.premises_of(connection, incident), "")

    async def look(self, incident: str, devices: Devices, now_ms: float) -> Review | None:
        """An incident looked back at; None when it is unknown. `devices` are those of its premises."""
        return await self.asked(lambda connection: review.read(connection, incident, devices, now_ms), None)

    async def standing(self, now_ms: float) -> list[Alarm]:
        """The alarms that stand without an incident."""
        return await self.asked(lambda connection: case.standing(connection, now_ms), [])

    async def alarm(self, number: int, now_ms: float) -> Alarm | None:
        """One alarm by its number."""
        return await self.asked(lambda connection: case.alarm(connection, number, now_ms), None)

    async def open_incident(self, premises: str) -> str:
        """The open incident of a premises, or ""."""
        query = "SELECT id FROM incident WHERE premises = ? AND state = 'open'"
        rows = await self._rows(query, premises)
        return str(rows[0][0]) if rows else ""

    async def drills(self, premises: str) -> Standing:
        """How it stands with the drills of a premises."""
        return await self.asked(lambda connection: drills.standing(connection, premises), Standing())

    async def was_told(self, incident: str, receiver: str) -> bool:
        """Whether a receiver was told of an incident."""
        return await self.asked(lambda connection: cad.was_told(connection, receiver, incident), False)  # noqa: FBT003

    async def proved(self, walk: Walk) -> list[Shown]:
        """The alarms that a walk test has seen, in order."""
        query = "SELECT device, point, received_ms FROM test_alarm WHERE by = ? AND mode_ms = ? ORDER BY id"
        rows = await self._rows(query, walk.by, walk.started_ms)
        devices = self._directory().devices
        found = [{"device": row[0], "point": row[1], "received_ms": row[2]} for row in rows]
        return [one for one in found if one["device"] in devices and walk.holds(devices[one["device"]])]

    async def _rows(self, query: str, *values: Any) -> list[Any]:
        return await self.asked(lambda connection: connection.execute(query, values).fetchall(), [])

    async def asked(self, question: Callable[[Connection], T], otherwise: T) -> T:
        """What the journal says to a question; `otherwise` when it is not there yet."""
        return await self._thread(lambda: self._read(question, otherwise))

    def _read(self, question: Callable[[Connection], T], otherwise: T) -> T:
        """On the thread."""
        connection = self._journal.connection()
        if connection is None and is_there(self._journal.path):
            raise StoreError("the journal cannot be opened now")
        if connection is None:
            return otherwise
        try:
            return question(connection)
        except UNREADABLE as error:
            self._journal.close()
            raise StoreError(f"the journal cannot be read now: {error}") from error
