"""What was decided of a premises at some time: who had put what out of service, who tested, which rules and plan were in force.

All functions read with the caller's connection; times are ms UTC.
"""

from __future__ import annotations

from dataclasses import dataclass

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.expressions import Q

from iotcore.registry import disablements, walks
from iotcore.registry.directory import Disablement, Walk
from iotcore.registry.tables_acts import DisablementRow, ResponseVersionRow, WalkRow
from iotcore.registry.tables_commissioning import InTestRow
from iotcore.registry.tables_rules import RuleVersionRow

SHOWN = 50  # of each kind, the oldest
SCOPES = 10  # documents of one rule


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a rule or plan that was in force; `removed`: it had been taken away by then."""

    key: str
    version: int
    by: str
    at_ms: int
    removed: bool


@dataclass(frozen=True, slots=True)
class TestMode:
    """A device in test mode; the registry keeps the last one of each device."""

    __test__ = False  # for pytest

    device: str
    by: str
    started_ms: int
    ended_ms: int


@dataclass(frozen=True, slots=True)
class Stood:
    """All of it, of one premises."""

    disablements: tuple[Disablement, ...] = ()
    walks: tuple[Walk, ...] = ()
    tests: tuple[TestMode, ...] = ()
    rules: tuple[Version, ...] = ()  # the documents of one rule, by their scope; none: the rule of the installation's file
    plan: Version | None = None


async def at_premises(db: BaseDBAsyncClient, premises: str, rule: str, from_ms: float, until_ms: float) -> Stood:
    """What was in effect at any time from `from_ms` to `until_ms`; of rules and plan, what was in force at `from_ms`."""
    during = Q(started_ms__lte=int(until_ms), until_ms__gte=int(from_ms)) & (Q(ended_ms=None) | Q(ended_ms__gte=int(from_ms)))
    out = await DisablementRow.filter(during, premises=premises).using_db(db).order_by("started_ms", "id").limit(SHOWN)
    walked = await WalkRow.filter(during, premises=premises).using_db(db).order_by("started_ms", "id").limit(SHOWN)
    tested = InTestRow.filter(during, device__premises_id=premises).using_db(db).order_by("started_ms").limit(SHOWN)
    tests = await tested.values_list("device_id", "by", "started_ms", "until_ms", "ended_ms")
    return Stood(
        tuple(disablements.plain(row) for row in out),
        tuple(walks.plain(row) for row in walked),
        tuple(TestMode(device, by, begun, until if ended is None else ended) for device, by, begun, until, ended in tests),
        await _rules(db, rule, int(from_ms)),
        await _plan(db, premises, int(from_ms)),
    )


async def _rules(db: BaseDBAsyncClient, rule: str, at_ms: int) -> tuple[Version, ...]:
    named = Q(key=rule) | Q(key__startswith=f"{rule}@")
    rows = RuleVersionRow.filter(named, at_ms__lte=at_ms).using_db(db).order_by("key", "version")
    newest = {row[0]: row for row in await rows.values_list("key", "version", "by", "at_ms", "body")}
    return tuple(Version(row[0], row[1], row[2], row[3], removed=not row[4]) for row in newest.values())[:SCOPES]


async def _plan(db: BaseDBAsyncClient, premises: str, at_ms: int) -> Version | None:
    row = await ResponseVersionRow.filter(premises=premises, at_ms__lte=at_ms).using_db(db).order_by("-version").first()
    return None if row is None else Version(premises, row.version, row.by, row.at_ms, removed=not row.document)
