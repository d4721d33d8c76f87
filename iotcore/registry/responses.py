"""Response plans in the registry: one for each premises that has one, every version kept, read into the Directory.

What this version of iotcore cannot read any more (an older or newer one wrote it, or somebody by hand) counts as no plan: such a
premises is `immediate`, and every receiver is told. It is logged, and `Kept.response` is None.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass

import msgspec
from tortoise.backends.base.client import BaseDBAsyncClient

from iotcore.errors import Refused
from iotcore.registry.audit import canonical
from iotcore.registry.database import Database, Writing, whole
from iotcore.registry.response import Response
from iotcore.registry.subjects import Subject, exists
from iotcore.registry.tables_acts import ResponseRow, ResponseVersionRow

log = logging.getLogger(__name__)

SHOWN = 200  # versions of one plan


@dataclass(frozen=True, slots=True)
class Kept:
    """A version of a plan. `response` is None where it was removed, or cannot be read."""

    premises: str
    version: int
    response: Response | None
    by: str
    at_ms: int
    removed: bool = False


async def read(db: BaseDBAsyncClient, premises: Collection[str] | None = None) -> dict[str, Response]:
    """The plans as they are, by premises: all, or those of some."""
    rows = ResponseRow.all() if premises is None else ResponseRow.filter(premises_id__in=sorted(premises))
    found = await rows.using_db(db).values_list("premises_id", "document")
    plans = {str(name): _decoded(str(name), text) for name, text in found}
    return {name: plan for name, plan in plans.items() if plan is not None}


class Responses:
    """The registry's response plans. All methods raise StoreError when the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, premises: str) -> Kept | None:
        """The plan of a premises; None where it has none. Raises Refused `unknown_premises`."""
        async with self._database.reading() as db:
            await exists(db, Subject("premises", premises))
            row = await ResponseRow.get_or_none(premises_id=premises, using_db=db)
        return None if row is None else _kept(premises, row)

    async def all(self) -> dict[str, Kept]:
        """Every plan, by premises."""
        async with self._database.reading() as db:
            rows = await ResponseRow.all().using_db(db).order_by("premises_id")
        return {row.premises_id: _kept(row.premises_id, row) for row in rows}

    async def history(self, premises: str) -> list[Kept]:
        """Its versions, the newest first."""
        async with self._database.reading() as db:
            rows = await ResponseVersionRow.filter(premises=premises).using_db(db).order_by("-version").limit(SHOWN)
        return [_kept(premises, row) for row in rows]

    @whole
    async def save(self, premises: str, plan: Response, by: str, expected: int | None = None) -> Kept:
        """Keep a checked plan; the same again is no new version.

        Raises:
            Refused: `unknown_premises`, or `conflict` when its version is not `expected` (0: there is none yet).
        """
        async with self._database.writing() as work:
            await exists(work.db, Subject("premises", premises))
            row = await ResponseRow.get_or_none(premises_id=premises, using_db=work.db)
            _insist(premises, row, expected)
            text = canonical(msgspec.to_builtins(plan))
            if row is not None and row.document == text:
                return _kept(premises, row)
            number = await _next(work, premises)
            values = {"version": number, "document": text, "by": by, "at_ms": work.now_ms}
            if row is None:
                await ResponseRow.create(using_db=work.db, premises_id=premises, **values)
            else:
                await ResponseRow.filter(premises_id=premises).using_db(work.db).update(**values)
            await ResponseVersionRow.create(using_db=work.db, premises=premises, **values)
            work.note(by, "response.save", premises, version=number, document=text)
            work.changed("response", premises)
            return Kept(premises, number, plan, by, work.now_ms)

    @whole
    async def remove(self, premises: str, by: str, expected: int | None = None) -> bool:
        """Forget a plan: the premises is immediate again. False when it has none; raises Refused `conflict`."""
        async with self._database.writing() as work:
            row = await ResponseRow.get_or_none(premises_id=premises, using_db=work.db)
            _insist(premises, row, expected)
            if row is None:
                return False
            number = await _next(work, premises)
            await ResponseRow.filter(premises_id=premises).using_db(work.db).delete()
            await ResponseVersionRow.create(
                using_db=work.db, premises=premises, version=number, document="", by=by, at_ms=work.now_ms
            )
            work.note(by, "response.remove", premises, version=number)
            work.changed("response", premises)
            return True


def _insist(premises: str, row: ResponseRow | None, expected: int | None) -> None:
    version = row.version if row is not None else 0
    if expected is not None and expected != version:
        raise Refused("conflict", f"the plan of {premises!r} has version {version}, not {expected}: look at it again")


async def _next(work: Writing, premises: str) -> int:
    """Versions count on over a removal."""
    last = await ResponseVersionRow.filter(premises=premises).using_db(work.db).order_by("-version").first()
    return last.version + 1 if last is not None else 1


def _decoded(premises: str, text: str) -> Response | None:
    try:
        return msgspec.json.decode(text, type=Response)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        log.error("the response plan of %s cannot be read and counts as none: %s", premises, error)  # noqa: TRY400 - expected
        return None


def _kept(premises: str, row: ResponseRow | ResponseVersionRow) -> Kept:
    removed = not row.document
    return Kept(premises, row.version, None if removed else _decoded(premises, row.document), row.by, row.at_ms, removed)
