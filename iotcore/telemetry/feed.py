"""Feed: what happens to incidents, followed from the fire journal into series for dashboards.

    journal `change` ─────every 200 ms──► what changed ──► its moments, a point each ──► spool (points and cursor, one commit)

    incident   a point for each step: opened, durable, sent and receiver_acknowledged (for each receiver), acknowledged (by a
               person), reset; each says how long after the detector and after the arrival it was
    drill      the same for an alarm that was a test (a test button, a walk test), and for each drill with what its receivers
               answered by each path, and how it ended; nobody was sent

A change says which incident, not what of it: every moment of it is written again. A moment has one time, so that leaves one
point, and a feed that was killed between two commits goes on where the last one left it: nothing missing, nothing twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from zlib import crc32

import msgspec

from iotcore import metrics
from iotcore.errors import StoreError
from iotcore.journal import drills
from iotcore.journal.database import UNREADABLE, Connection, Place, connect_readonly, is_there
from iotcore.journal.drills import Drill
from iotcore.journal.progress import Row
from iotcore.journal.records import Notice
from iotcore.journal.timeline import Timeline, timeline
from iotcore.telemetry.point import PlatformSeries, Point

POLL_S = 0.2  # wire contract, Changes
PAGE_CHANGES = 500
RETRY_S = 1.0
NS_PER_MS = 1_000_000
CURSOR = "~change"  # how far the journal was followed, as a track among the spool's progress; no device has such a name
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """What some changes come to, and how far the journal was read."""

    points: tuple[Point, ...]
    cursor: int
    changes: int


async def follow_incidents(journal: Place, series: PlatformSeries) -> None:
    """Follow the journal until cancelled, from where the spool says that it was followed to."""
    cursor = next((row.up_to for row in await series.spool.progress() if row.device == CURSOR), 0)
    with closing(_Journal(journal, series.cell)) as following:
        while True:
            page = await asyncio.to_thread(following.page, cursor)
            if page.cursor != cursor:
                try:
                    await series.commit(page.points, [Row(CURSOR, "", page.cursor, "[]", 0)])
                except StoreError as error:
                    log.warning("the story of incidents could not be kept yet: %s", error)
                    await asyncio.sleep(RETRY_S)
                    continue
                metrics.feed_changes.inc(page.changes)
                cursor = page.cursor
            if page.changes < PAGE_CHANGES:
                await asyncio.sleep(POLL_S)


class _Journal:
    """The fire journal, read only; opened when it is there."""

    def __init__(self, place: Place, cell: str) -> None:
        self._place = place
        self._cell = cell
        self._connection: Connection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def page(self, cursor: int) -> Page:
        """What the changes after `cursor` come to; nothing while the journal cannot be read."""
        try:
            if self._connection is None:
                if not is_there(self._place):
                    return Page((), cursor, 0)
                self._connection = connect_readonly(self._place)
            return self._page(self._connection, cursor)
        except UNREADABLE as error:
            log.info("the fire journal cannot be followed now: %s", error)
            self.close()
            return Page((), cursor, 0)

    def _page(self, connection: Connection, cursor: int) -> Page:
        (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM change").fetchone()
        if last < cursor:  # a new journal in the place of an old one
            cursor = 0
        rows = connection.execute(
            "SELECT id, kind, key FROM change WHERE id > ? ORDER BY id LIMIT ?", (cursor, PAGE_CHANGES)
        ).fetchall()
        points: list[Point] = []
        for incident in dict.fromkeys(row["key"] for row in rows if row["kind"] in {"incident", "delivery"}):
            story = timeline(connection, incident)
            points += incident_points(story, self._cell) if story is not None else ()
        for row in rows:
            if row["kind"] == "alarm":
                points += proof_points(connection, int(row["key"]), self._cell)
        for id_ in dict.fromkeys(row["key"] for row in rows if row["kind"] == "drill"):
            found = drills.get(connection, id_)
            points += drill_points(found, self._cell) if found is not None else ()
        return Page(tuple(points), rows[-1]["id"] if rows else cursor, len(rows))


def incident_points(story: Timeline, cell: str = "") -> Iterator[Point]:
    """A point for each moment of an incident that has been; the same for the same story."""
    notice = story.notice
    steps: list[tuple[str, str, float | None]] = [("opened", "", story.decided_ms), ("durable", "", story.durable_ms)]
    for one in story.deliveries:
        told = "" if one.event == "alarm" else f"{one.event}_"
        steps += [(f"{told}sent", one.channel, one.sent_ms), (f"{told}receiver_acknowledged", one.channel, one.acknowledged_ms)]
    steps += [("acknowledged", "", story.acknowledged_ms), ("reset", "", story.closed_ms)]
    for step, channel, at_ms in steps:
        if at_ms is None:
            continue
        tags = {
            "premises": story.premises,
            "hazard": notice.hazard,
            "severity": notice.severity,
            "step": step,
            "channel": channel,
            "cell": cell,
        }
        fields: dict[str, float | str] = {
            "incident": story.incident,
            "since_detector_ms": at_ms - story.detector_ms,
            "since_received_ms": at_ms - story.received_ms,
        }
        series = (story.premises, step, channel) if channel else (story.premises, step)
        yield Point("incident", series, tags, fields, _at_ns(at_ms, story.incident))


def drill_points(drill: Drill, cell: str = "") -> Iterator[Point]:
    """A point for each moment of a drill that has been; a real one's alarm is told by `proof_points`."""
    steps: list[tuple[str, str, float | None]] = [("durable", "", drill.durable_ms)]
    if drill.source == "simulated":
        steps.append(("opened", "", drill.decided_ms))
    for one in drill.deliveries:
        steps += [("sent", one.path, one.sent_ms), ("receiver_acknowledged", one.path, one.acked_ms)]
    steps.append((drill.state, "", drill.ended_ms))
    for step, channel, at_ms in steps:
        if at_ms is None:
            continue
        tags = {"premises": drill.premises, "step": step, "channel": channel, "cell": cell}
        fields: dict[str, float | str] = {"drill": drill.id}
        if drill.detector_ms is not None and drill.received_ms is not None:
            fields |= {"since_detector_ms": at_ms - drill.detector_ms, "since_received_ms": at_ms - drill.received_ms}
        series = (drill.premises, step, channel) if channel else (drill.premises, step)
        yield Point("drill", series, tags, fields, _at_ns(at_ms, drill.id))


def proof_points(connection: Connection, alarm: int, cell: str = "") -> Iterator[Point]:
    """A point for an alarm that was a test; none for any other."""
    row = connection.execute(
        "SELECT state, notice, detector_ms, received_ms, raised_ms FROM alarm WHERE id = ?", (alarm,)
    ).fetchone()
    if row is None or row["state"] != "test":
        return
    notice = msgspec.json.decode(row["notice"], type=Notice)
    tags = {"premises": notice.premises, "hazard": notice.hazard, "severity": notice.severity, "step": "opened", "cell": cell}
    fields = {
        "since_detector_ms": row["raised_ms"] - row["detector_ms"],
        "since_received_ms": row["raised_ms"] - row["received_ms"],
    }
    yield Point("drill", (notice.premises, "opened"), tags, fields, _at_ns(row["raised_ms"], f"{notice.device} {notice.rule}"))


def _at_ns(at_ms: float, of: str) -> int:
    """The moment, in whole milliseconds; below them digits of its own for each story, so that two do not replace each other."""
    return int(at_ms) * NS_PER_MS + crc32(of.encode()) % NS_PER_MS
