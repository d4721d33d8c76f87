"""Fire rules as documents with versions: how they are kept, not what they mean (`iotcore.alarms.rule_book` reads them).

A document is named by its rule and scope: `smoke-rise`, `smoke-rise@premises:p1`. Every version stays, also of a removed one,
and stands whole in the audit. Numbers go on after a removal, so a version is one text for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tortoise.functions import Max

from iotcore.errors import Refused
from iotcore.registry import audit
from iotcore.registry.database import BATCH_ROWS, Database, Writing, insertion, whole
from iotcore.registry.tables import ChangeRow
from iotcore.registry.tables_rules import RuleRow, RuleVersionRow

CHANGE = "rule"  # the kind of its changes
MAX_DOCUMENTS = 10_000
POLL_LIMIT = 1_000  # changes of all kinds that one look reads
VERSIONS_SHOWN = 100
COLUMNS = ("key", "body", "version", "by", "at_ms")


@dataclass(frozen=True, slots=True)
class Document:
    """A version of a rule document; `body` is canonical JSON, "" for a removal."""

    key: str
    body: str
    version: int
    by: str
    at_ms: int


class RuleStore:
    """The registry's rule documents. All methods raise StoreError when the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> dict[str, Document]:
        """Every document by its key, in order."""
        async with self._database.reading() as db:
            return {row[0]: Document(*row) for row in await RuleRow.all().using_db(db).order_by("key").values_list(*COLUMNS)}

    async def versions(self, key: str, before: int | None = None, limit: int = VERSIONS_SHOWN) -> list[Document]:
        """The versions of a document, the newest first; those before one of them."""
        wanted: dict[str, Any] = {"key": key} if before is None else {"key": key, "version__lt": before}
        async with self._database.reading() as db:
            found = RuleVersionRow.filter(**wanted).using_db(db).order_by("-version").limit(limit)
            rows = await found.values_list(*COLUMNS)
        return [Document(*row) for row in rows]

    async def version(self, key: str, number: int) -> Document | None:
        """One version of a document."""
        found = await self.versions(key, number + 1, 1)
        return found[0] if found and found[0].version == number else None

    async def changed_after(self, cursor: int) -> tuple[int, bool]:
        """How far the registry's changes go, at most `POLL_LIMIT` beyond the cursor, and whether one of them was of a rule."""
        async with self._database.reading() as db:
            asked = ChangeRow.filter(id__gt=cursor).using_db(db).order_by("id").limit(POLL_LIMIT)
            rows = await asked.values_list("id", "kind")
        return (rows[-1][0] if rows else cursor), any(kind == CHANGE for _, kind in rows)

    async def last_change(self) -> int:
        """The cursor that whoever reads everything goes on from; take it before reading."""
        async with self._database.reading() as db:
            row = await ChangeRow.all().using_db(db).order_by("-id").first()
        return row.id if row is not None else 0

    @whole
    async def save(self, bodies: Mapping[str, Any], by: str, expected: Mapping[str, int] | None = None) -> list[Document]:
        """Keep checked documents, plain data by key, all or none of them; the new versions. The same again is no new version.

        Raises:
            Refused: `conflict` when a version is not the `expected` one (0: there is none), `too_many` documents.
        """
        async with self._database.writing() as work:
            there = await _there(work, bodies)
            _insist(there, expected or {})
            texts = {key: audit.canonical(body) for key, body in bodies.items()}
            changed = {key: text for key, text in texts.items() if key not in there or there[key].body != text}
            count = await RuleRow.all().using_db(work.db).count() + sum(key not in there for key in changed)
            if count > MAX_DOCUMENTS:
                raise Refused("too_many", f"{count} rule documents, and {MAX_DOCUMENTS} are the most; remove some")
            made = await _numbered(work, changed, by)
            await _store(work, made, by, bodies)
            return made

    @whole
    async def remove(self, key: str, by: str, expected: int | None = None) -> Document | None:
        """Forget a document; its versions stay. None when there is none.

        Raises:
            Refused: `conflict` when its version is not the `expected` one.
        """
        async with self._database.writing() as work:
            there = await _there(work, [key])
            if key not in there:
                return None
            _insist(there, {} if expected is None else {key: expected})
            (gone,) = await _numbered(work, {key: ""}, by)
            await RuleRow.filter(key=key).using_db(work.db).delete()
            await work.db.execute_many(insertion(work.db, "rule_version", COLUMNS), [_row(gone)])
            work.note(by, "rule.remove", key, key=key, version=gone.version)
            work.changed(CHANGE, key)
            return gone


def insist(key: str, found: int, expected: int) -> None:
    """Refuse another version than the one that somebody has seen; raises Refused(`conflict`)."""
    if found != expected:
        raise Refused("conflict", f"rule {key} has version {found}, not {expected}: look at it again")


async def _there(work: Writing, keys: Iterable[str]) -> dict[str, Document]:
    found: dict[str, Document] = {}
    for chunk in _chunks(list(keys)):
        rows = await RuleRow.filter(key__in=chunk).using_db(work.db).values_list(*COLUMNS)
        found |= {row[0]: Document(*row) for row in rows}
    return found


def _insist(there: Mapping[str, Document], expected: Mapping[str, int]) -> None:
    for key, version in expected.items():
        insist(key, there[key].version if key in there else 0, version)


async def _numbered(work: Writing, bodies: Mapping[str, str], by: str) -> list[Document]:
    """The next version of each: beyond all that its key ever had."""
    last: dict[str, int] = {}
    for chunk in _chunks(list(bodies)):
        asked = RuleVersionRow.filter(key__in=chunk).using_db(work.db).annotate(last=Max("version")).group_by("key")
        last |= {row[0]: row[1] for row in await asked.values_list("key", "last")}
        rows = await RuleRow.filter(key__in=chunk).using_db(work.db).values_list("key", "version")
        last |= {key: max(version, last.get(key, 0)) for key, version in rows}  # somebody may have written it by hand
    return [Document(key, body, last.get(key, 0) + 1, by, work.now_ms) for key, body in bodies.items()]


async def _store(work: Writing, made: Sequence[Document], by: str, bodies: Mapping[str, Any]) -> None:
    for chunk in _chunks([one.key for one in made]):
        await RuleRow.filter(key__in=chunk).using_db(work.db).delete()
    if made:
        rows = [_row(one) for one in made]
        await work.db.execute_many(insertion(work.db, "rule_document", COLUMNS), rows)
        await work.db.execute_many(insertion(work.db, "rule_version", COLUMNS), rows)
    for one in made:
        work.note(by, "rule.save", one.key, key=one.key, version=one.version, rule=bodies[one.key])
        work.changed(CHANGE, one.key)


def _row(one: Document) -> list[Any]:
    return [one.key, one.body, one.version, one.by, one.at_ms]


def _chunks(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[first : first + BATCH_ROWS] for first in range(0, len(keys), BATCH_ROWS))
