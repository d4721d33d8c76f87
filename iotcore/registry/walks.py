"""Walk tests in the registry: a zone or a premises that one technician tests, point by point, for at most four hours.

Like the test mode of one device (`commissioning`) it ends by the clock. While it lasts, an alarm of a point in it is proof, and
goes to nobody; a call point, a waterflow, and whatever is outside of it are live.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import UTC, datetime

from tortoise.backends.base.client import BaseDBAsyncClient

from iotcore.errors import Refused
from iotcore.registry.database import Database, Writing, whole
from iotcore.registry.directory import Walk
from iotcore.registry.tables import PremisesRow, ZoneRow
from iotcore.registry.tables_acts import WalkRow

MINUTE_MS = 60_000
LONGEST_MS = 4 * 3_600_000
OVER = "clock"
SHOWN = 200


async def standing(db: BaseDBAsyncClient, ids: Collection[str] | None = None) -> dict[str, Walk]:
    """Those that nobody has ended, by id: whether their time is up is for the reader's clock to say."""
    rows = WalkRow.filter(ended_ms=None)
    if ids is not None:
        rows = rows.filter(id__in=sorted(ids))
    return {row.id: plain(row) for row in await rows.using_db(db).order_by("id")}


class Walks:
    """The registry's walk tests. All methods raise StoreError when the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, *, ended: bool = False) -> list[Walk]:
        """The newest first; with `ended` also those that are over."""
        async with self._database.reading() as db:
            rows = WalkRow.all() if ended else WalkRow.filter(ended_ms=None)
            return [plain(row) for row in await rows.using_db(db).order_by("-started_ms", "-id").limit(SHOWN)]

    async def get(self, id_: str) -> Walk:
        """One, also when it is over; raises Refused `unknown_walk`."""
        async with self._database.reading() as db:
            row = await WalkRow.get_or_none(id=id_, using_db=db)
        if row is None:
            raise Refused("unknown_walk", f"there is no walk test {id_!r}")
        return plain(row)

    @whole
    async def start(self, premises: str, zone: str, for_ms: int, by: str) -> Walk:
        """Begin a walk test of a zone, or with "" of all of a premises.

        Raises:
            Refused: `unknown_premises`, `unknown_zone`, `too_long`, or `in_walk` when somebody walks there already.
        """
        if not MINUTE_MS <= for_ms <= LONGEST_MS:
            raise Refused("too_long", f"a walk test lasts 1 minute to {LONGEST_MS // 3_600_000} hours")
        async with self._database.writing() as work:
            if not await PremisesRow.filter(id=premises).using_db(work.db).exists():
                raise Refused("unknown_premises", f"no premises {premises!r} is registered")
            if zone and not await ZoneRow.filter(id=zone, premises_id=premises).using_db(work.db).exists():
                raise Refused("unknown_zone", f"{premises!r} has no zone {zone!r}")
            for row in await WalkRow.filter(premises=premises, ended_ms=None, until_ms__gt=work.now_ms).using_db(work.db):
                if not (row.zone and zone) or row.zone == zone:
                    raise Refused("in_walk", f"{row.by} walks there already: {row.id}; one technician at a time")
            row = await WalkRow.create(
                using_db=work.db,
                id=f"W{datetime.fromtimestamp(work.now_ms / 1000.0, UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
                premises=premises,
                zone=zone,
                by=by,
                started_ms=work.now_ms,
                until_ms=work.now_ms + for_ms,
                ended_by="",
            )
            work.note(by, "walk_test.start", row.id, premises=premises, zone=zone, until_ms=row.until_ms)
            work.changed("walk_test", row.id)
            return plain(row)

    @whole
    async def end(self, id_: str, by: str) -> bool:
        """End a walk test; False when it is over. Raises Refused `unknown_walk`."""
        async with self._database.writing() as work:
            row = await WalkRow.get_or_none(id=id_, using_db=work.db)
            if row is None:
                raise Refused("unknown_walk", f"there is no walk test {id_!r}")
            if row.ended_ms is not None:
                return False
            await _end(work, row, by, work.now_ms)
            return True

    @whole
    async def end_overdue(self) -> list[str]:
        """Write down which are over because their time is up; their ids."""
        now_ms = self._database.now_ms()
        async with self._database.reading() as db:
            if not await WalkRow.filter(ended_ms=None, until_ms__lte=now_ms).using_db(db).exists():
                return []
        async with self._database.writing() as work:
            rows = await WalkRow.filter(ended_ms=None, until_ms__lte=work.now_ms).using_db(work.db).order_by("id")
            for row in rows:
                await _end(work, row, OVER, row.until_ms)
            return [row.id for row in rows]


async def _end(work: Writing, row: WalkRow, by: str, at_ms: int) -> None:
    await WalkRow.filter(id=row.id).using_db(work.db).update(ended_ms=at_ms, ended_by=by)
    work.note(by, "walk_test.end", row.id, premises=row.premises, zone=row.zone)
    work.changed("walk_test", row.id)


def plain(row: WalkRow) -> Walk:
    """A row as everybody else sees it."""
    return Walk(row.id, row.premises, row.zone, row.by, row.started_ms, row.until_ms, row.ended_ms, row.ended_by)
