"""What the page shows, read from the lanes' own files and never written.

journal.db     incidents, deliveries, presence and faults of fire devices, refused messages
telemetry.db   last values, presence and faults of every device
spool-*.db     messages that the telemetry workers refused

A file that is not there yet, or cannot be read, is left out and said so in `readable`: a page must not look calm because it is
blind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from iotcore.journal import cad, paths, story, tests
from iotcore.journal.database import UNREADABLE, Connection, Place, connect_readonly, is_there
from iotcore.journal.records import Notice
from iotcore.journal.timeline import Delivery, Timeline, timeline
from iotcore.registry import vendors
from iotcore.registry.directory import Binding, Directory
from iotcore.specs.model import DeviceSpec
from iotcore.web.unit_view import fitted, spaced, tests_told
from iotcore.wire.topics import FIRE_DOMAIN

T = TypeVar("T")
Shown = dict[str, Any]  # plain data for templates and tests
RECENT_LIMIT = 5  # closed incidents that stay on the page
OPEN_LIMIT = 500  # open incidents drawn at once, first-in first; more than this many are counted, not drawn
DISPATCH_LIMIT = 10  # the last things that dispatch centres have said of an incident
MS_PER_S = 1000.0
TESTS = f"SELECT {tests.COLUMNS} FROM test_alarm WHERE device = ? ORDER BY id DESC LIMIT ?"  # noqa: S608 - constants
UNKNOWN_CONDUCT: Shown = {"lost": 0, "missing": 0, "hole_since_ms": None, "throttled": 0, "skew_ms": None}


class View(Protocol):
    """What the web process asks; every method is quick and safe to call from any thread."""

    def changed(self) -> bool:
        """Whether anything can have changed since the last call."""

    def incidents(self) -> list[Shown]:
        """Open incidents, first-in first, then the last closed ones; none when the journal is not readable."""

    def devices(self) -> list[Shown]:
        """Every device with its last values, presence and faults."""

    def device(self, name: str) -> Shown | None:
        """One device with what a technician wants to know besides."""

    def refused(self) -> dict[str, int]:
        """Refused messages by reason, of all lanes."""

    def paths(self) -> list[Shown]:
        """The paths to the receivers of alarms; none when the journal is not readable, or no path is tested."""

    def readable(self) -> dict[str, bool]:
        """Which of the files could be read at the last attempt."""


class ReadOnlyFile:
    """A SQLite file of another process, or the journal's database; it may come, and its tables may come, later."""

    def __init__(self, path: Place) -> None:
        self.path = path
        self.readable = False
        self._connection: Connection | None = None
        self._version = -1

    def changed(self) -> bool:
        """Whether somebody has committed since the last call."""
        version = self._version
        is_file = isinstance(self.path, Path)
        found = self.read("PRAGMA data_version" if is_file else "SELECT coalesce(max(id), 0) FROM change")
        self._version = found[0][0] if found else -1
        return self._version != version

    def read(self, statement: str, *values: Any) -> list[Any]:
        """Rows, or none when the file or the table is not there."""
        connection = self.connection()
        try:
            return connection.execute(statement, values).fetchall() if connection is not None else []
        except UNREADABLE:
            self.close()
            return []

    def connection(self) -> Connection | None:
        """An open connection, or None; notes whether the file is readable."""
        if self._connection is None and is_there(self.path):
            try:
                self._connection = connect_readonly(self.path)
                self._connection.execute("SELECT 1").fetchone()
                if isinstance(self.path, Path):
                    self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except UNREADABLE:
                self.close()
        self.readable = self._connection is not None
        return self._connection

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""
        self.readable = False
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class StoredView:
    """The view over a data folder. `directory` says who is where."""

    def __init__(self, folder: Path, directory: Callable[[], Directory], journal: Place | None = None) -> None:
        self._folder = folder
        self._directory = directory
        self._shown: Directory | None = None
        self._journal = ReadOnlyFile(journal or folder / "journal.db")
        self._telemetry = ReadOnlyFile(folder / "telemetry.db")
        self._spools: dict[Path, ReadOnlyFile] = {}
        self._lock = threading.Lock()  # a connection must not be closed, nor two queries meet, in two threads

    def close(self) -> None:
        """Let go of every file."""
        with self._lock:
            for file in self._files():
                file.close()

    def changed(self) -> bool:
        with self._lock:
            directory, self._shown = self._shown, self._directory()
            return any([file.changed() for file in self._files()]) or directory is not self._shown  # noqa: C419 - ask every file

    def readable(self) -> dict[str, bool]:
        return {"journal": self._journal.readable, "telemetry": self._telemetry.readable}

    def incidents(self) -> list[Shown]:
        with self._lock:
            connection = self._journal.connection()
            names = self._journal.read("SELECT id FROM incident WHERE state = 'open' ORDER BY decided_ms, id LIMIT ?", OPEN_LIMIT)
            names += self._journal.read(
                "SELECT id FROM incident WHERE state = 'closed' ORDER BY closed_ms DESC, id LIMIT ?", RECENT_LIMIT
            )
            if connection is None:
                return []
            try:
                lines = [timeline(connection, name) for (name,) in names]
            except UNREADABLE:
                self._journal.close()
                return []
            return [self._incident(line) for line in lines if line is not None]

    def devices(self) -> list[Shown]:
        with self._lock:
            values = _by_device(self._telemetry.read("SELECT * FROM latest ORDER BY device, point"))
            faults = _by_device(self._faults())
            presence = self._presence()
            directory = self._directory()
            return [
                _device(binding, directory, values.get(name, []), faults.get(name, []), presence.get(name, {}))
                for name, binding in sorted(directory.devices.items())
            ]

    def device(self, name: str) -> Shown | None:
        with self._lock:
            directory = self._directory()
            binding = directory.devices.get(name)
            if binding is None:
                return None
            values = self._telemetry.read("SELECT * FROM latest WHERE device = ? ORDER BY point", name)
            faults = [row for row in self._faults() if row["device"] == name]
            alarms = self._journal.read(
                "SELECT severity, state, rule, detector_ms, raised_ms FROM alarm WHERE device = ? ORDER BY id DESC LIMIT 1", name
            )
            shown = _device(binding, directory, values, faults, self._presence().get(name, {}))
            return {
                **shown,
                **fitted(binding),
                "conduct": self._conduct("WHERE device = ?", name).get(name, UNKNOWN_CONDUCT),
                "alarm": dict(alarms[0]) if alarms else None,
                "tests": tests_told(self._journal.read(TESTS, name, tests.SHOWN)),
            }

    def paths(self) -> list[Shown]:
        """Without the moment of the last acknowledgement, which changes all the time."""
        found: list[paths.Path] = self._asked(paths.shown, [])
        return [
            {"name": one.name, "up": one.up, "since_ms": one.since_ms, "reason": one.reason, "undelivered": one.undelivered}
            for one in found
        ]

    def _asked(self, question: Callable[[Connection], T], otherwise: T) -> T:
        with self._lock:
            connection = self._journal.connection()
            if connection is None:
                return otherwise
            try:
                return question(connection)
            except UNREADABLE:
                self._journal.close()
                return otherwise

    def conduct(self) -> dict[str, Shown]:
        """How devices deliver, of those of which anything is known: what was lost, is missing, was throttled; their clocks."""
        with self._lock:
            return self._conduct("")

    def refused(self) -> dict[str, int]:
        with self._lock:
            counts: dict[str, int] = {}
            for file in self._files():
                if file is not self._telemetry:
                    for reason, count in file.read("SELECT reason, count FROM quarantine_count"):
                        counts[reason] = counts.get(reason, 0) + count
            return dict(sorted(counts.items()))

    def _files(self) -> list[ReadOnlyFile]:
        for path in self._folder.glob("spool-*.db"):
            self._spools.setdefault(path, ReadOnlyFile(path))
        return [self._journal, self._telemetry, *self._spools.values()]

    def _faults(self) -> list[Any]:
        statement = "SELECT device, reason, first_ms, last_ms, count FROM fault WHERE cleared_ms IS NULL ORDER BY device, reason"
        return [*self._journal.read(statement), *self._telemetry.read(statement)]

    def _conduct(self, where: str, *values: str) -> dict[str, Shown]:
        """Each lane answers for its own devices; of a fire device the fire lane does."""
        statement = f"SELECT device, lost, missing, hole_since_ms, throttled, skew_ms FROM conduct {where}"  # noqa: S608 - constants
        rows = [*self._telemetry.read(statement, *values), *self._journal.read(statement, *values)]
        return {row["device"]: {name: row[name] for name in UNKNOWN_CONDUCT} for row in rows}

    def _presence(self) -> dict[str, Shown]:
        """Both lanes hear of fire devices; the later word counts."""
        presence = {
            row["device"]: {
                "online": {"online": True, "offline": False}.get(row["state"]),
                "changed_ms": row["changed_ms"] or 0.0,
                "last_seen_ms": row["last_seen_ms"],
                "firmware": row["firmware"],
            }
            for row in self._telemetry.read("SELECT device, state, changed_ms, last_seen_ms, firmware FROM presence")
        }
        for row in self._journal.read("SELECT device, online, at_ms FROM presence"):
            known = presence.setdefault(row["device"], {"last_seen_ms": None, "firmware": "", "changed_ms": 0.0})
            if row["at_ms"] >= known["changed_ms"]:
                known |= {"online": bool(row["online"]), "changed_ms": row["at_ms"]}
        return presence

    def _incident(self, line: Timeline) -> Shown:
        notice = line.notice
        binding = self._directory().devices.get(notice.device)
        return {
            "id": line.incident,
            "state": line.state,
            **_place(notice),
            "device": notice.device,
            "device_title": binding.title if binding else "",
            "point": notice.point,
            "point_title": _title(binding.spec, notice.point) if binding else {},
            "value": notice.value,
            "unit": notice.unit,
            "hazard": notice.hazard,
            "reason": notice.reason,
            "rule": notice.rule,
            "delayed": notice.delayed,
            "unconfirmed": notice.unconfirmed,
            "alarms": line.alarms,
            "moments": _moments(line),
            "acknowledged_ms": line.acknowledged_ms,
            "acknowledged_by": line.acknowledged_by,
            "closed_ms": line.closed_ms,
            "detector_ms": line.detector_ms,
            "delivered_after_ms": None if line.delivered_ms is None else line.delivered_ms - line.detector_ms,
            "dispatch": _dispatch(line.incident, self._journal.connection()),
            "deliveries": [_delivery(one) for one in line.deliveries if one.event == "alarm"],
        }


def _moments(line: Timeline) -> list[Shown]:
    """The steps of an incident in order: when, and how many ms after the step before; None where it has not happened."""
    sent = min((d.sent_ms for d in line.deliveries if d.event == "alarm" and d.sent_ms is not None), default=None)
    steps = [
        ("detector", line.detector_ms),
        ("received", line.received_ms),
        ("decided", line.decided_ms),
        ("durable", line.durable_ms),
        ("sent", sent),
        ("delivered", line.delivered_ms),
    ]
    return spaced(steps)


def _delivery(one: Delivery) -> Shown:
    """A receiver's path: confirmed, failing, sent (no answer yet) or waiting."""
    if one.acknowledged_ms is not None:
        state = "confirmed"
    elif one.last_error:
        state = "rejected" if one.last_error.startswith("rejected") else "failing"
    else:
        state = "sent" if one.sent_ms is not None else "waiting"
    return {"channel": one.channel, "state": state, "attempts": one.attempts, "error": one.last_error or ""}


def _dispatch(incident: str, connection: Connection | None) -> list[Shown]:
    """What dispatch centres have said of it, oldest first; nothing while the journal cannot be read."""
    if connection is None:
        return []
    said = cad.standing(story.told(connection, incident))[-DISPATCH_LIMIT:]
    return [{"kind": one.kind, "by": one.by, "at_ms": one.at_ms, "detail": one.detail} for one in said]


def _place(notice: Notice) -> Shown:
    return {
        "premises": notice.premises,
        "premises_name": notice.premises_name,
        "address": notice.address,
        "floor": notice.floor,
        "zone_name": notice.zone_name,
        "zone_number": notice.zone_number,
    }


def _device(
    binding: Binding, directory: Directory, values: Iterable[Any], faults: Iterable[Any], presence: Mapping[str, Any]
) -> Shown:
    spec = binding.spec
    order = {point: i for i, point in enumerate(spec.points)}
    premises = directory.premises.get(binding.premises)
    zone = directory.zones.get(binding.zone)
    return {
        "id": binding.device,
        "title": binding.title,
        "model": spec.title,
        "class": spec.device_class,
        "state": binding.state,
        "publisher": binding.publisher,
        "connection": binding.connection,
        "proven": not vendors.is_vendor(binding),
        "premises": binding.premises,
        "premises_name": premises.name if premises else "",
        "address": premises.address if premises else "",
        "floor": zone.floor if zone else "",
        "zone_name": zone.name if zone else "",
        "silent_after_ms": _silent_after_s(binding) * MS_PER_S,
        "weakly_supervised": binding.domain == FIRE_DOMAIN and spec.weakly_supervised,
        "online": presence.get("online"),
        "last_seen_ms": presence.get("last_seen_ms"),
        "firmware": presence.get("firmware", ""),
        "values": sorted((_value(spec, row) for row in values), key=lambda value: order.get(value["point"], len(order))),
        "faults": [{"reason": reason, "since_ms": since} for reason, since in _distinct(faults)],
    }


def _silent_after_s(binding: Binding) -> float:
    """A fire device's limit; of others three missed readings."""
    return binding.spec.silence_limit_s if binding.domain == FIRE_DOMAIN else 3 * binding.spec.interval_s


def _value(spec: DeviceSpec, row: Any) -> Shown:
    point = spec.points.get(row["point"])
    value = row["value"]
    if point is not None and point.kind == "bool" and isinstance(value, int | float):
        value = bool(value)
    return {
        "point": row["point"],
        "title": _title(spec, row["point"]),
        "unit": point.unit if point is not None else "",
        "value": value,
        "quality": row["quality"],
        "why": row["why"],
        "observed_ms": row["observed_ms"],
        "received_ms": row["received_ms"],
    }


def _title(spec: DeviceSpec, point: str) -> dict[str, str]:
    found = spec.points.get(point)
    return found.title if found is not None else {}


def _distinct(faults: Iterable[Any]) -> list[tuple[str, float]]:
    """Both lanes notice a fire device's fault: it is one, since the earlier notice."""
    since: dict[str, float] = {}
    for row in faults:
        since[row["reason"]] = min(row["first_ms"], since.get(row["reason"], row["first_ms"]))
    return sorted(since.items())


def _by_device(rows: Iterable[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row["device"], []).append(row)
    return found
