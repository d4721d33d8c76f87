"""What a raise becomes: a cause, an alarm, and for a fire an incident: a new one, the open one, or one that is closed already.

cause, unique ──► known: nothing more, whoever evaluated it
   └► test, historical, disabled, or no fire ──► an alarm on record
   └► fire ──► of an episode that was reset after its reading ──► on record there; `past` says so
           └─► the premises' open incident ──► joined; a later point is told as an update; a hold may end
           └─► a new incident ──► its notices, or a hold
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from iotcore.journal import drill_heard, escalations, flaps, held, story, tests, timers
from iotcore.journal.changes import note_change
from iotcore.journal.database import Connection
from iotcore.journal.posting import Standing, add_points, post_alarm, post_update, standing, text
from iotcore.journal.records import FIRE_SEVERITY, Notice, Raise, incident_id


@dataclass(slots=True)
class Raising:
    """The raises of one commit, inside its transaction, and what became of them."""

    connection: Connection
    channels: Sequence[str]
    now: timers.Now
    opened: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)  # from their hold
    updated: list[str] = field(default_factory=list)
    past: list[Raise] = field(default_factory=list)
    tested: list[int] = field(default_factory=list)
    drilled: list[str] = field(default_factory=list)
    _alarms: dict[str, tuple[Sequence[str], Notice]] = field(
        default_factory=dict
    )  # of new incidents: receivers, and what is told
    _updates: list[tuple[str, Notice]] = field(default_factory=list)

    def finish(self) -> None:
        """Post what the commit tells: the alarms with every point that the device said in it, then updates."""
        for incident, (receivers, notice) in self._alarms.items():
            post_alarm(self.connection, receivers, incident, notice, self.now.wall_ms)
        known: dict[str, Standing] = {}
        for incident, notice in self._updates:
            if incident not in known:
                known[incident] = standing(self.connection, incident)
            if post_update(self.connection, incident, notice, self.now.wall_ms, known=known[incident]):
                self.updated.append(incident)

    def take(self, one: Raise) -> None:
        """Record one decision."""
        if not self._is_new(one):
            return
        if one.test or one.historical or one.disabled or one.notice.severity != FIRE_SEVERITY:
            self._record(one, None, _recorded(one))
            if one.in_test is not None and one.test and one.notice.severity == FIRE_SEVERITY:
                self.tested.append(tests.keep(self.connection, one, None))
            if one.test and (drill := drill_heard.pressed(self.connection, one, self.now.wall_ms)):
                self.drilled.append(drill)
            return
        incident = self._closed(one) or self._joined(one) or self._opened(one)
        self.connection.execute(
            "UPDATE cause SET incident = ? WHERE device = ? AND boot = ? AND seq = ? AND rule = ?",
            (incident, one.notice.device, one.boot, one.seq, one.notice.rule),
        )
        if one.in_test is not None:
            self.tested.append(tests.keep(self.connection, one, incident))

    def _is_new(self, one: Raise) -> bool:
        """Keep the cause. One that is known belongs to its incident; if that is closed, whoever raised again must unlatch."""
        key = (one.notice.device, one.boot, one.seq, one.notice.rule)
        inserted = self.connection.execute(
            "INSERT INTO cause (device, boot, seq, rule, at_ms) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (*key, one.decided_ms),
        )
        if inserted.rowcount:
            return True
        closed = self.connection.execute(
            "SELECT 1 FROM cause JOIN incident ON incident.id = cause.incident "
            "WHERE device = ? AND boot = ? AND seq = ? AND rule = ? AND state = 'closed'",
            key,
        ).fetchone()
        if closed is not None:
            self.past.append(one)
        return False

    def _closed(self, one: Raise) -> str:
        """The episode that was reset after this reading, whoever evaluates it only now; "" when there is none."""
        row = self.connection.execute(
            "SELECT incident FROM watermark WHERE device = ? AND boot = ? AND seq >= ?", (one.notice.device, one.boot, one.seq)
        ).fetchone()
        if row is None:
            return ""
        self._record(one, row[0], "reset")
        self.past.append(one)
        note_change(self.connection, "incident", row[0], self.now.wall_ms)
        return str(row[0])

    def _joined(self, one: Raise) -> str:
        """The premises' open incident; "" when there is none."""
        notice, at_ms = one.notice, self.now.wall_ms
        row = self.connection.execute(
            "SELECT id, hold FROM incident WHERE premises = ? AND state = 'open'", (notice.premises,)
        ).fetchone()
        if row is None:
            return ""
        incident = str(row[0])
        self._record(one, incident, "active")
        is_new = add_points(self.connection, incident, _points(one), one.decided_ms)
        if is_new:
            story.tell(self.connection, incident, story.JOINED, one.decided_ms, detail=_said(one))
        else:
            note_change(self.connection, "incident", incident, at_ms)
        if reason := held.joined(row[1], notice.device, one.hold):
            held.release(self.connection, self.now, incident, reason)
            self.released.append(incident)
        elif is_new and not self._tells(incident, notice.device):
            self._updates.append((incident, notice))
        return incident

    def _opened(self, one: Raise) -> str:
        """A new incident: told at once, unless its premises asks to wait."""
        notice = one.notice
        for draw in itertools.count():
            name = incident_id(one, draw)
            kept = text(msgspec.structs.replace(notice, incident=name))
            inserted = self.connection.execute(
                "INSERT INTO incident (id, premises, state, notice, detector_ms, received_ms, decided_ms) "
                "VALUES (?, ?, 'open', ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (name, notice.premises, kept, one.detector_ms, one.received_ms, one.decided_ms),
            )
            if inserted.rowcount:
                break
            # the name is taken: in a storm of a thousand premises within one second, about one time in thirty; draw again
        self.opened.append(name)
        self._record(one, name, "active")
        add_points(self.connection, name, _points(one), one.decided_ms)
        story.tell(self.connection, name, story.OPENED, one.decided_ms, detail=_said(one))
        receivers = [channel for channel in self.channels if channel in one.receivers] or self.channels
        if one.hold is not None and one.hold.t1_s > 0.0:
            held.begin(self.connection, self.now, name, one, receivers)
        else:
            self._alarms[name] = (receivers, notice)
            escalations.begin(self.connection, self.now, name, one.answer_s)
        return name

    def _tells(self, incident: str, device: str) -> bool:
        """Whether the alarm that this commit posts speaks of this device already: another point of it goes with it."""
        return incident in self._alarms and self._alarms[incident][1].device == device

    def _record(self, one: Raise, incident: str | None, state: str) -> None:
        notice = msgspec.structs.replace(one.notice, incident=incident or "")
        latched = one.latched or notice.severity == FIRE_SEVERITY
        if state == "active" and (known := flaps.again(self.connection, self.now, one, incident)):
            note_change(self.connection, "alarm", str(known), self.now.wall_ms)
            return
        reset_ms = self.now.wall_ms if state == "reset" else None
        (number,) = self.connection.execute(
            "INSERT INTO alarm (incident, device, rule, severity, state, notice, detector_ms, received_ms, raised_ms, reset_ms, "
            "latched) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (incident, notice.device, notice.rule, notice.severity, state, text(notice), one.detector_ms, one.received_ms,
             one.decided_ms, reset_ms, int(latched)),
        ).fetchone()  # fmt: skip
        note_change(self.connection, "alarm", str(number), self.now.wall_ms)


def _points(one: Raise) -> list[tuple[str, str]]:
    """The point that decided, and those that corroborate it."""
    others = [(device, point) for device, _, point in (name.partition("/") for name in one.points)]
    return [(one.notice.device, one.notice.point), *others]


def _said(one: Raise) -> str:
    return f"{one.notice.device}/{one.notice.point}: {one.notice.reason}"


def _recorded(one: Raise) -> str:
    """The state of an alarm that belongs to no incident."""
    if one.test:
        return "walk" if one.walk else "test"
    return "disabled" if one.disabled else "historical" if one.historical else "active"
