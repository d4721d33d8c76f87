"""Reading the audit trail: pages of it, filtered, and the walk over all of it in bounded memory.

All functions read with the caller's connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.expressions import Q

from iotcore.registry import audit
from iotcore.registry.tables import AuditRow, HeadRow

PAGE_ENTRIES = 2_000  # read at once: about 1 MB
COLUMNS = ("seq", "at_ms", "by", "action", "subject", "detail", "hash")


class Wanted(msgspec.Struct, frozen=True):
    """Which entries: those that fit everything that is said. Times are ms UTC, the end not included.

    An `action` that ends with a dot fits all that begin with it: `device.` fits `device.state`.
    """

    by: str = ""
    action: str = ""
    subject: str = ""
    from_ms: float | None = None
    to_ms: float | None = None

    def condition(self) -> Q:
        """As the database is asked."""
        exact: dict[str, Any] = {key: value for key in ("by", "subject") if (value := getattr(self, key))}
        if self.action:
            exact["action__startswith" if self.action.endswith(".") else "action"] = self.action
        if self.from_ms is not None:
            exact["at_ms__gte"] = int(self.from_ms)
        if self.to_ms is not None:
            exact["at_ms__lt"] = int(self.to_ms)
        return Q(**exact)


async def page(db: BaseDBAsyncClient, after: int, limit: int, wanted: Wanted | None = None) -> list[audit.Entry]:
    """Entries with a larger number, oldest first."""
    condition = (wanted or Wanted()).condition()
    asked = AuditRow.filter(condition, seq__gt=after).using_db(db).order_by("seq").limit(limit)
    return [audit.Entry(audit.Deed(*row[:-1]), row[-1]) for row in await asked.values_list(*COLUMNS)]


async def before_last(db: BaseDBAsyncClient, count: int, wanted: Wanted) -> int:
    """The number after which the last `count` of the wanted entries stand."""
    row = await AuditRow.filter(wanted.condition()).using_db(db).order_by("-seq").offset(count).first()
    return row.seq if row is not None else 0


async def pages(db: BaseDBAsyncClient, after: int = 0, wanted: Wanted | None = None) -> AsyncIterator[audit.Entry]:
    """All of them after a number, a page in memory at a time."""
    while more := await page(db, after, PAGE_ENTRIES, wanted):
        for entry in more:
            yield entry
        after = more[-1].deed.seq


async def head(db: BaseDBAsyncClient) -> audit.Head:
    """The end of the chain, as the database says it."""
    row = await HeadRow.get(id=1, using_db=db)
    return audit.Head(row.seq, row.hash)


async def holds(db: BaseDBAsyncClient, known: audit.Head) -> bool:
    """Whether the entry that a head names is there, as it was, and the chain is at least that long."""
    row = await AuditRow.get_or_none(seq=known.seq, using_db=db)
    found = row.hash if row is not None else audit.GENESIS if known.seq == 0 else ""
    return found == known.hash and (await head(db)).seq >= known.seq


async def verify(db: BaseDBAsyncClient, heads: Iterable[audit.Head] = ()) -> list[audit.Break]:
    """Walk the whole chain up to where its head is now."""
    last = await head(db)
    walk = audit.Walk(heads)
    async for entry in pages(db):
        if entry.deed.seq > last.seq:  # written since we began
            break
        walk.take(entry)
    return walk.end(last)
