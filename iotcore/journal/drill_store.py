"""Drills in the transactions of a journal: when each is due, what is asked for, heard, told and over. Any replica may do each.

follow ─► timer `drill` of each premises whose plan wants drills
due ────► begin ─► a row that waits, timers `drill_end` (its limit) and `drill_grace` (from the first that was due)
heard (`drill_heard`, in the lane's own commit) ─► post ─► its deliveries, leased one by one ─► finish
grace over ─► missed: a trouble of the premises, until a drill passes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from iotcore.journal import drill_times, drills, flaps, timers
from iotcore.journal.changes import note_change
from iotcore.journal.database import Connection
from iotcore.journal.drills import BURNING, DUE, MISSED, PREFIX, SCHEDULE, Source, open_incident
from iotcore.journal.journal import Journal
from iotcore.journal.posting import MAX_NUMBER, notice_of, text
from iotcore.journal.quarantine import clear_fault, raise_fault
from iotcore.journal.raising import Raising
from iotcore.journal.records import Cleared, Notice, OutboxRow, Purpose, Raise

GRACE, END = "drill_grace", "drill_end"  # kinds of timers beside `DUE`; keys: premises, drill
GRACE_S = 86_400.0  # from when it was due until it is missed: a day of hourly attempts
HEARD_S = 100.0  # of a simulated one to come through the broker, and of each delivery (EN 54-21: 100 s)
PRESS_S = 600.0  # of a real one: the technician has to reach the detector
AT_ONCE = 4  # simulated drills under way: a city's drills may not crowd the receivers' lines
LOOK = 20  # due premises that are looked at together
LEASE_MS = 90_000.0  # the longest reply timeout and a half
MAX_WAIT_MS = 4.0 * LEASE_MS  # a lease further ahead was written before the clock was set back

# reasons
NOT_HEARD, NOT_PRESSED, NO_POINT, NO_RECEIVER, NO_REPLY = "not_heard", "not_pressed", "no_alarm_point", "no_receiver", "no_reply"


class Ask(NamedTuple):
    """A drill that is wanted. `value` is JSON of what `point` is made to say; both are empty of a real one."""

    id: str
    premises: str
    by: str
    source: Source
    device: str = ""
    point: str = ""
    value: str = ""
    due_ms: float | None = None


class Way(NamedTuple):
    """A path of a receiver that a drill goes by, and what it is called there."""

    receiver: str
    path: str
    purpose: Purpose = "test"


class Work(NamedTuple):
    """One delivery, leased to whoever asked."""

    drill: str
    receiver: str
    path: str
    row: OutboxRow


class SqlDrills:
    """Of a journal. All may raise StoreError."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def follow(self, every: Mapping[str, int]) -> None:
        """These premises are drilled every so many days, and no others; one that is new is due at its next minute."""
        with self._journal.reading() as connection:
            known = _timed(connection)
        if known == every:
            return
        now = self._journal.now()
        with self._journal.writing() as connection:
            known = _timed(connection)
            for premises in known.keys() - every.keys():
                timers.cancel(connection, DUE, premises)
                _calm(connection, premises, now.wall_ms)
            for premises, days in every.items():
                if known.get(premises) != days:
                    passed_ms = drills.passed_ms(connection, premises)
                    due_ms = drill_times.due_ms(premises, passed_ms, days, now.wall_ms)
                    _set(connection, now, premises, days, due_ms)

    def due(self) -> list[str]:
        """Premises whose drill is due; none while as many are under way as may be."""
        now = self._journal.now()
        with self._journal.reading() as connection:
            room = AT_ONCE - _under_way(connection)
            return [one.key for one in timers.due(connection, now, (DUE,), LOOK)][:room] if room > 0 else []

    def begin(self, ask: Ask) -> bool:
        """Begin what is due there, or put it off: at night, while it burns, while another waits. Whether it began."""
        now = self._journal.now()
        with self._journal.writing() as connection:
            row = connection.execute("SELECT body FROM timer WHERE kind = ? AND key = ?", (DUE, ask.premises)).fetchone()
            if row is None or not timers.take(connection, DUE, ask.premises):
                return False  # another replica was first
            days = int(row[0])
            missed = drills.is_missed(connection, ask.premises)
            if not drill_times.is_day(now.wall_ms):
                _set(connection, now, ask.premises, days, drill_times.slot_ms(ask.premises, now.wall_ms))
                return False
            if not missed:
                _set_once(connection, now, ask.premises)
            _set(connection, now, ask.premises, days, drill_times.again_ms(ask.premises, now.wall_ms, missed=missed))
            if open_incident(connection, ask.premises) or not _insert(connection, now, ask._replace(due_ms=now.wall_ms)):
                return False
            if not ask.device:
                drills.end(connection, ask.id, "failed", NO_POINT, now.wall_ms)
            return True

    def ask(self, ask: Ask) -> str:
        """Somebody wants a drill now; why it is put off, "" when it waits."""
        now = self._journal.now()
        with self._journal.writing() as connection:
            if drills.get(connection, ask.id) is not None:
                return ""  # the same wish, heard by another replica too
            incident = open_incident(connection, ask.premises)
            why = f"{BURNING}: {incident}" if incident else _other(connection, ask.premises)
            if why:
                _keep(connection, ask, "put_off", why, now.wall_ms)
                return why
            _insert(connection, now, ask)
            if ask.source == "simulated" and not ask.device:
                drills.end(connection, ask.id, "failed", NO_POINT, now.wall_ms)
        return ""

    def tried(self, premises: str) -> dict[str, str]:
        """The devices of a premises by when a simulated drill spoke for them last, that longest ago first, and its point."""
        with self._journal.reading() as connection:
            rows = connection.execute(
                "SELECT device, point FROM drill WHERE premises = ? AND source = 'simulated' AND device <> '' "
                "ORDER BY asked_ms, id",
                (premises,),
            ).fetchall()
        found: dict[str, str] = {}
        for device, point in rows:
            found.pop(device, None)  # the newest is the last
            found[device] = point
        return found

    def heard(self) -> list[drills.Drill]:
        """The drills that were heard and have no deliveries yet."""
        with self._journal.reading() as connection:
            return [one for (id_,) in connection.execute(_HEARD).fetchall() if (one := drills.get(connection, id_)) is not None]

    def post(self, id_: str, ways: Sequence[Way]) -> bool:
        """Make the deliveries of a drill that was heard; False when somebody else has. From now on their limit runs."""
        now = self._journal.now()
        with self._journal.writing() as connection:
            row = connection.execute(f"{_HEARD_ONE} AND id = ?", (id_,)).fetchone()
            if row is None:
                return False
            if not ways:
                self._end(connection, now, id_, "failed", NO_RECEIVER)
                return True
            connection.execute("UPDATE drill SET durable_ms = coalesce(durable_ms, ?) WHERE id = ?", (now.wall_ms, id_))
            for way in ways:
                notice = msgspec.structs.replace(notice_of(row[0]), purpose=way.purpose)
                connection.execute(
                    "INSERT INTO drill_delivery (drill, receiver, path, number, notice, state, reason, until_ms) "
                    "VALUES (?, ?, ?, ?, ?, 'waiting', '', 0)",
                    (id_, way.receiver, way.path, _number(connection, way.path), text(notice)),
                )
            timers.set(connection, now, END, id_, HEARD_S)
            note_change(connection, "drill", id_, now.wall_ms)
            return True

    def next(self, path: str) -> Work | None:
        """A delivery that goes by this path, leased to the caller; none of a premises where it burns."""
        now_ms = self._journal.now_ms()
        asked = {"path": path, "now": now_ms, "most": now_ms + MAX_WAIT_MS}
        with self._journal.reading() as connection:
            if connection.execute(_NEXT, asked).fetchone() is None:
                return None
        with self._journal.writing() as connection:
            row = connection.execute(_NEXT, asked).fetchone()
            if row is None:
                return None
            connection.execute(
                "UPDATE drill_delivery SET until_ms = ? WHERE drill = ? AND receiver = ? AND path = ?",
                (now_ms + LEASE_MS, row[0], row[1], path),
            )
        return Work(row[0], row[1], path, OutboxRow(0, row[0], path, row[2], 0, notice_of(row[3])))

    def sent(self, work: Work, at_ms: float) -> None:
        """Its first frame has left."""
        self._set(work, "sent_ms = coalesce(sent_ms, ?)", at_ms)

    def acknowledged(self, work: Work, at_ms: float) -> None:
        """The receiver's own acknowledgement is here."""
        self._set(work, "state = 'acknowledged', reason = '', acked_ms = ?", at_ms)

    def refused(self, work: Work, reason: str, again_ms: float | None) -> None:
        """It was not acknowledged: again then, or with None never."""
        if again_ms is None:
            self._set(work, "state = 'failed', reason = ?", reason)
        else:
            self._set(work, "reason = ?, until_ms = ?", reason, again_ms)

    def finish(self) -> list[drills.Drill]:
        """Close what is over: all acknowledged, a limit passed, a fire at the premises. Those that ended, as they are now."""
        now = self._journal.now()
        with self._journal.reading() as connection:
            over = {str(one[0]) for one in connection.execute(_OVER).fetchall()}
            over |= {one.key for one in timers.due(connection, now, (END,), LOOK)}
        if not over:
            return []
        with self._journal.writing() as connection:
            ended = [id_ for id_ in sorted(over) if self._finish(connection, now, id_)]
            return [one for id_ in ended if (one := drills.get(connection, id_)) is not None]

    def miss(self, told: Callable[[str, float], Notice]) -> list[str]:
        """Premises whose grace is over, each told to one caller: from now on a trouble. While it burns there, it waits.

        `told` makes the notice of that trouble, of a premises and since when (ms UTC).
        """
        now = self._journal.now()
        with self._journal.reading() as connection:
            if not timers.due(connection, now, (GRACE,), 1):
                return []
        missed = []
        with self._journal.writing() as connection:
            for timer in timers.due(connection, now, (GRACE,), LOOK):
                if not timers.take(connection, GRACE, timer.key):
                    continue
                if open_incident(connection, timer.key):
                    timers.set(connection, now, GRACE, timer.key, drill_times.RETRY_S, timer.body)
                    continue
                _keep_missed(connection, now, timer, told(timer.key, now.wall_ms))
                missed.append(timer.key)
        return missed

    def missed(self) -> list[str]:
        """The premises where one was missed, and none has passed since."""
        with self._journal.reading() as connection:
            return drills.missed(connection)

    def _finish(self, connection: Connection, now: timers.Now, id_: str) -> bool:
        one = drills.get(connection, id_)
        if one is None or one.state != "waiting":
            timers.cancel(connection, END, id_)
            return False
        if incident := open_incident(connection, one.premises):
            return self._end(connection, now, id_, "put_off", f"{BURNING}: {incident}")
        if one.received_ms is None:
            return self._end(connection, now, id_, "failed", NOT_HEARD if one.source == "simulated" else NOT_PRESSED)
        if not one.deliveries:  # heard at the last moment, and about to be posted: its limit begins then
            timers.set(connection, now, END, id_, HEARD_S)
            return False
        connection.execute(
            "UPDATE drill_delivery SET state = 'failed', reason = CASE WHEN reason = '' THEN ? ELSE reason END "
            "WHERE drill = ? AND state = 'waiting'",
            (NO_REPLY, id_),
        )
        one = drills.get(connection, id_) or one
        wrong = [f"{way.receiver} by {way.path}: {way.reason}" for way in one.deliveries if way.state != "acknowledged"]
        return self._end(connection, now, id_, "failed" if wrong else "passed", "; ".join(wrong))

    def _end(self, connection: Connection, now: timers.Now, id_: str, state: drills.State, reason: str) -> bool:
        """Close one; what passed ends the trouble of its premises, and is due again in so many days."""
        timers.cancel(connection, END, id_)
        if not drills.end(connection, id_, state, reason, now.wall_ms):
            return False
        if state == "passed":
            (premises,) = connection.execute("SELECT premises FROM drill WHERE id = ?", (id_,)).fetchone()
            _calm(connection, premises, now.wall_ms)
            days = _timed(connection).get(premises)
            if days is not None:
                _set(connection, now, premises, days, drill_times.due_ms(premises, now.wall_ms, days, now.wall_ms))
        return True

    def _set(self, work: Work, assignments: str, *values: float | str) -> None:
        with self._journal.writing() as connection:
            connection.execute(
                f"UPDATE drill_delivery SET {assignments} WHERE drill = ? AND receiver = ? AND path = ? AND state = 'waiting'",  # noqa: S608
                (*values, *work[:3]),
            )


_HEARD_ONE = (
    "SELECT notice FROM drill WHERE state = 'waiting' AND notice <> '' "
    "AND NOT EXISTS (SELECT 1 FROM drill_delivery WHERE drill = drill.id)"
)
_HEARD = _HEARD_ONE.replace("notice", "id", 1)
_BURNS = "EXISTS (SELECT 1 FROM incident WHERE incident.premises = drill.premises AND incident.state = 'open')"
# every delivery has ended, or it burns there
_OVER = f"""
SELECT id FROM drill WHERE state = 'waiting' AND ({_BURNS} OR (EXISTS (SELECT 1 FROM drill_delivery WHERE drill = drill.id)
  AND NOT EXISTS (SELECT 1 FROM drill_delivery WHERE drill = drill.id AND state = 'waiting')))
"""  # noqa: S608 - constants
_NEXT = f"""
SELECT drill.id, receiver, number, drill_delivery.notice FROM drill_delivery JOIN drill ON drill.id = drill_delivery.drill
WHERE path = :path AND drill_delivery.state = 'waiting' AND drill.state = 'waiting'
  AND (drill_delivery.until_ms <= :now OR drill_delivery.until_ms > :most) AND NOT {_BURNS}
ORDER BY drill.asked_ms, drill.id, receiver LIMIT 1
"""  # noqa: S608 - constants


def _insert(connection: Connection, now: timers.Now, ask: Ask) -> bool:
    if not _keep(connection, ask, "waiting", "", now.wall_ms):
        return False
    timers.set(connection, now, END, ask.id, HEARD_S if ask.source == "simulated" else PRESS_S)
    return True


def _keep(connection: Connection, ask: Ask, state: drills.State, reason: str, now_ms: float) -> bool:
    """Its row; False where another one of its premises waits."""
    kept = connection.execute(
        "INSERT INTO drill "
        "(id, premises, asked_by, source, device, point, value, state, reason, notice, due_ms, asked_ms, ended_ms) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?, ?, ?) ON CONFLICT DO NOTHING",
        (ask.id, ask.premises, ask.by, ask.source, ask.device, ask.point, ask.value, state, reason, ask.due_ms, now_ms,
         None if state == "waiting" else now_ms),
    ).rowcount  # fmt: skip
    if kept:
        note_change(connection, "drill", ask.id, now_ms)
    return kept > 0


def _other(connection: Connection, premises: str) -> str:
    row = connection.execute("SELECT id FROM drill WHERE premises = ? AND state = 'waiting'", (premises,)).fetchone()
    return "" if row is None else f"waits: {row[0]}"


def _keep_missed(connection: Connection, now: timers.Now, grace: timers.Timer, told: Notice) -> None:
    """A row that says so, with why the last run did not pass, and the trouble: a fault, and an alarm that stands."""
    premises, due_ms = grace.key, float(grace.body)
    last = connection.execute(
        "SELECT reason FROM drill WHERE premises = ? AND state IN ('failed', 'put_off') AND asked_ms >= ? "
        "ORDER BY asked_ms DESC LIMIT 1",
        (premises, due_ms),
    ).fetchone()
    one = Ask(f"{drills.drill_id(premises, due_ms)}-M", premises, SCHEDULE, "simulated", due_ms=due_ms)
    _keep(connection, one, "missed", last[0] if last else "", now.wall_ms)
    raise_fault(connection, PREFIX + premises, MISSED, now.wall_ms)
    Raising(connection, (), now).take(Raise(one.id, 1, told, due_ms, now.wall_ms, now.wall_ms, latched=False))


def _timed(connection: Connection) -> dict[str, int]:
    """Premises that are drilled, and every how many days."""
    return {key: int(body) for key, body in connection.execute("SELECT key, body FROM timer WHERE kind = ?", (DUE,)).fetchall()}


def _set(connection: Connection, now: timers.Now, premises: str, days: int, at_ms: float) -> None:
    timers.set(connection, now, DUE, premises, max(0.0, (at_ms - now.wall_ms) / 1000.0), str(days))


def _set_once(connection: Connection, now: timers.Now, premises: str) -> None:
    """The grace runs from the first time that it was due."""
    if connection.execute("SELECT 1 FROM timer WHERE kind = ? AND key = ?", (GRACE, premises)).fetchone() is None:
        timers.set(connection, now, GRACE, premises, GRACE_S, str(now.wall_ms))


def _calm(connection: Connection, premises: str, now_ms: float) -> None:
    """Nothing is owed there any more."""
    timers.cancel(connection, GRACE, premises)
    clear_fault(connection, PREFIX + premises, MISSED, now_ms)
    flaps.clear(connection, Cleared(PREFIX + premises, MISSED, now_ms))


def _under_way(connection: Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM drill WHERE state = 'waiting' AND source = 'simulated'").fetchone()[0])


def _number(connection: Connection, channel: str) -> int:
    """The channel's next number, as of every notice (`posting`)."""
    row = connection.execute(
        "INSERT INTO channel_number (channel, number) VALUES (?, 1) "
        "ON CONFLICT (channel) DO UPDATE SET number = channel_number.number % ? + 1 RETURNING number",
        (channel, MAX_NUMBER),
    ).fetchone()
    return int(row[0])
