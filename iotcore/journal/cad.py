"""What a dispatch centre tells of an incident that it was told: the life cycle of ASAP (APCO/CSAA), in the incident's story.

    accepted | rejected → dispatched → on scene → closed with a disposition; and a request to cancel, which cancels nothing here:
    the premises' people reset

Each update counts once, however often and to however many processes it came: its receiver and id are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from iotcore.errors import Refused
from iotcore.journal import story
from iotcore.journal.database import Connection

Status = Literal["accepted", "rejected", "dispatched", "on_scene", "closed", "cancel_requested"]
Word = Annotated[str, Meta(max_length=200)]
STATUSES: dict[Status, str] = {
    "accepted": story.ACCEPTED,
    "rejected": story.REJECTED,
    "dispatched": story.DISPATCHED,
    "on_scene": story.ON_SCENE,
    "closed": story.CLOSED,
    "cancel_requested": "cancel_requested",
}
SCHEMA = """
CREATE TABLE IF NOT EXISTS cad_update (
    receiver TEXT NOT NULL,
    id       TEXT NOT NULL,
    incident TEXT NOT NULL,
    at_ms    DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (receiver, id)
);
"""


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """One update. `id` is the centre's own, new for each; the same one again is a repeat. Other members are ignored."""

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
    incident: Annotated[str, Meta(min_length=1, max_length=64, description="as the alarm named it")]
    status: Status
    reason: Annotated[str, Meta(max_length=200, description="of a rejection or a request to cancel")] = ""
    disposition: Annotated[str, Meta(max_length=200, description="of a closed incident")] = ""
    unit: Annotated[str, Meta(max_length=200, description="the crew that is on its way or there")] = ""
    reference: Annotated[str, Meta(max_length=200, description="the centre's own number")] = ""

    def said(self) -> str:
        """Its details, for people."""
        return ", ".join(one for one in (self.unit, self.disposition, self.reason, self.reference) if one)


def was_told(connection: Connection, receiver: str, incident: str) -> bool:
    """Whether an incident was ever for this receiver."""
    found = connection.execute(
        "SELECT 1 FROM outbox WHERE incident = ? AND channel = ? UNION ALL "
        "SELECT 1 FROM parked WHERE incident = ? AND channel = ?",
        (incident, receiver, incident, receiver),
    )
    return found.fetchone() is not None


def apply(connection: Connection, receiver: str, update: Update, at_ms: float) -> bool:
    """Tell an update in its incident's story; False for a repeat.

    Raises:
        Refused: `unknown_incident`, or one that this receiver was never told of.
    """
    if not was_told(connection, receiver, update.incident):
        raise Refused("unknown_incident", f"{update.incident} was never told to {receiver}")
    new = connection.execute(
        "INSERT INTO cad_update (receiver, id, incident, at_ms) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (receiver, update.id, update.incident, at_ms),
    ).rowcount
    if not new:
        return False
    story.tell(connection, update.incident, STATUSES[update.status], at_ms, receiver, update.said())
    return True


def standing(events: Iterable[story.Event]) -> list[story.Event]:
    """Of a story, what dispatch centres have said, oldest first."""
    return [one for one in events if one.kind in STATUSES.values()]
