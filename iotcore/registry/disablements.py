"""Disablements in the registry: what is out of service for a time, why, until when, and who answers for it.

A disablement ends by the clock: everybody who asks compares. The keeper only writes down that it is over. One of a whole premises
counts from when a second person has confirmed it; nobody confirms their own. An ask that nobody confirms is void after a day.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from tortoise.backends.base.client import BaseDBAsyncClient

from iotcore.errors import Refused
from iotcore.registry.database import Database, Writing, whole
from iotcore.registry.directory import Disablement, Target
from iotcore.registry.tables import TITLE_LENGTH, DeviceRow, PremisesRow, ZoneRow
from iotcore.registry.tables_acts import DisablementRow
from iotcore.registry.text import tidy, unseen
from iotcore.specs.model import DeviceSpec
from iotcore.wire.topics import DOMAIN_OF_CLASS, FIRE_DOMAIN

MINUTE_MS, DAY_MS = 60_000, 86_400_000
LONGEST_MS = 30 * DAY_MS
ASK_LASTS_MS = DAY_MS  # for a second person to confirm it
OVER = "clock"  # who ends what is over
SHOWN = 500


async def standing(db: BaseDBAsyncClient, ids: Collection[str] | None = None) -> dict[str, Disablement]:
    """Those that nobody has ended, by id: whether their time is up is for the reader's clock to say."""
    rows = DisablementRow.filter(ended_ms=None)
    if ids is not None:
        rows = rows.filter(id__in=sorted(ids))
    return {row.id: plain(row) for row in await rows.using_db(db).order_by("id")}


class Disablements:
    """The registry's disablements. All methods raise StoreError when the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, *, ended: bool = False) -> list[Disablement]:
        """The newest first; with `ended` also those that are over."""
        async with self._database.reading() as db:
            rows = DisablementRow.all() if ended else DisablementRow.filter(ended_ms=None)
            return [plain(row) for row in await rows.using_db(db).order_by("-asked_ms", "-id").limit(SHOWN)]

    @whole
    async def disable(
        self, target: Target, for_ms: int, reason: str, by: str, specs: Mapping[str, DeviceSpec], *, second_person: bool = False
    ) -> Disablement:
        """Disable something from now on; with `second_person` from when somebody else confirms it.

        Raises:
            Refused: `unknown_device`, `unknown_point`, `unknown_zone`, `unknown_premises`, `not_fire`, `too_long`, `no_reason`,
                or `disabled` when the very same is disabled already.
        """
        reason = tidy(reason)
        if not MINUTE_MS <= for_ms <= LONGEST_MS:
            raise Refused("too_long", f"a disablement lasts 1 minute to {LONGEST_MS // DAY_MS} days")
        if not 0 < len(reason) <= TITLE_LENGTH or unseen(reason):
            raise Refused("no_reason", f"say why, in 1 to {TITLE_LENGTH} characters")
        async with self._database.writing() as work:
            premises = await _place(work, target, specs)
            same = DisablementRow.filter(
                kind=target.kind, subject=target.subject, point=target.point, ended_ms=None, until_ms__gt=work.now_ms
            )
            if (known := await same.using_db(work.db).first()) is not None:
                raise Refused("disabled", f"{target} is disabled already: {known.id}; lift that first")
            row = await DisablementRow.create(
                using_db=work.db,
                id=_name(work.now_ms),
                kind=target.kind,
                subject=target.subject,
                point=target.point,
                premises=premises,
                reason=reason,
                by=by,
                asked_ms=work.now_ms,
                until_ms=work.now_ms + for_ms,
                confirmed_by="",
                started_ms=None if second_person else work.now_ms,
                ended_by="",
            )
            action = "disable.ask" if second_person else "disable"
            work.note(by, action, row.id, target=str(target), until_ms=row.until_ms, reason=reason)
            work.changed("disablement", row.id)
            return plain(row)

    @whole
    async def confirm(self, id_: str, by: str, user: str) -> Disablement:
        """A second person says yes; it begins. `user` is the person behind `by`.

        Raises:
            Refused: `unknown_disablement`, `decided`, `expired`, or `same_person`.
        """
        async with self._database.writing() as work:
            row = await _row(work, id_)
            if row.started_ms is not None or row.ended_ms is not None:
                raise Refused("decided", f"{id_} waits for nobody")
            if min(row.until_ms, row.asked_ms + ASK_LASTS_MS) <= work.now_ms:
                raise Refused("expired", f"{id_} was asked for too long ago; ask again")
            if row.by.partition("/")[0] == user:
                raise Refused("same_person", f"{user!r} has asked for it: somebody else must confirm")
            row.started_ms, row.confirmed_by = work.now_ms, by
            await DisablementRow.filter(id=id_).using_db(work.db).update(started_ms=work.now_ms, confirmed_by=by)
            work.note(
                by, "disable", id_, target=str(plain(row).target), until_ms=row.until_ms, asked_by=row.by, reason=row.reason
            )
            work.changed("disablement", id_)
            return plain(row)

    @whole
    async def lift(self, id_: str, by: str) -> bool:
        """End a disablement before its time, or an ask for one; False when it is over. Raises Refused `unknown_disablement`."""
        async with self._database.writing() as work:
            row = await _row(work, id_)
            if row.ended_ms is not None:
                return False
            await _end(work, row, by, work.now_ms)
            return True

    @whole
    async def end_overdue(self) -> list[str]:
        """Write down which are over because their time is up, or because nobody confirmed them; their ids."""
        now_ms = self._database.now_ms()
        async with self._database.reading() as db:
            if not [one for one in (await standing(db)).values() if _over(one, now_ms)]:
                return []
        async with self._database.writing() as work:
            over = [one for one in (await standing(work.db)).values() if _over(one, work.now_ms)]
            for one in over:
                await _end(work, await _row(work, one.id), OVER, min(one.until_ms, work.now_ms))
            return [one.id for one in over]


def _over(one: Disablement, now_ms: int) -> bool:
    return one.until_ms <= now_ms or (one.started_ms is None and one.asked_ms + ASK_LASTS_MS <= now_ms)


async def _end(work: Writing, row: DisablementRow, by: str, at_ms: int) -> None:
    await DisablementRow.filter(id=row.id).using_db(work.db).update(ended_ms=at_ms, ended_by=by)
    work.note(by, "enable", row.id, target=str(plain(row).target))
    work.changed("disablement", row.id)


async def _row(work: Writing, id_: str) -> DisablementRow:
    row = await DisablementRow.get_or_none(id=id_, using_db=work.db)
    if row is None:
        raise Refused("unknown_disablement", f"there is no disablement {id_!r}")
    return row


async def _place(work: Writing, target: Target, specs: Mapping[str, DeviceSpec]) -> str:
    """The premises that a target is in; raises Refused when it is not there, or nothing of fire."""
    if target.kind == "premises":
        if not await PremisesRow.filter(id=target.subject).using_db(work.db).exists():
            raise Refused("unknown_premises", f"no premises {target.subject!r} is registered")
        return target.subject
    if target.kind == "zone":
        zone = await ZoneRow.get_or_none(id=target.subject, using_db=work.db)
        if zone is None:
            raise Refused("unknown_zone", f"no zone {target.subject!r} is registered")
        return zone.premises_id
    device = await DeviceRow.get_or_none(id=target.subject, using_db=work.db)
    if device is None:
        raise Refused("unknown_device", f"{target.subject!r} is not registered")
    spec = specs.get(device.model)
    if spec is None or DOMAIN_OF_CLASS[spec.device_class] != FIRE_DOMAIN:
        raise Refused("not_fire", f"{target.subject!r} is no fire device: it raises no fire that could be disabled")
    if target.kind == "point" and target.point not in spec.points:
        raise Refused("unknown_point", f"{target.subject!r} has no point {target.point!r}")
    return device.premises_id or ""


def _name(now_ms: int) -> str:
    return f"D{datetime.fromtimestamp(now_ms / 1000.0, UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def plain(row: DisablementRow) -> Disablement:
    """A row as everybody else sees it."""
    return Disablement(
        row.id,
        Target(row.kind, row.subject, row.point),  # type: ignore[arg-type]  # as `disable` wrote it
        row.premises,
        row.reason,
        row.by,
        row.asked_ms,
        row.until_ms,
        row.started_ms,
        row.confirmed_by,
        row.ended_ms,
        row.ended_by,
    )
