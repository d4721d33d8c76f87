"""What `iotcore store init` makes in InfluxDB: a database (1.x, 3) or bucket (2) for values, and one for each kind of mean.

    iotcore, iotcore_1m, iotcore_1h                      values, means of a minute, means of an hour
    iotcore_confidential, …_1m, …_1h                     the same of confidential devices, when there are such

Databases rather than retention policies also on 1.x: so all versions look the same to InfluxQL and Grafana. What is missing is
created with its retention; what is there and differs is told, and changed only when asked: a shorter retention deletes. On 2 each
bucket gets a mapping (DBRP), without which InfluxQL does not find it; since 2.4 the server has one of its own for each.

Sources: docs.influxdata.com: /influxdb/v1/query_language/manage-database/, /influxdb/v2/api/ (buckets, dbrps),
/influxdb/v2/query-data/influxql/dbrp/, /influxdb3/core/admin/databases/, and 3.10 influxdb3/src/commands/show.rs (retention).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from iotcore import settings
from iotcore.telemetry.influx_answers import Answer
from iotcore.telemetry.influx_link import Link

S_PER_DAY = 86_400
NS_PER_S = 1_000_000_000
PAGE = 100  # buckets or mappings in one answer; the most that 2.x gives
DURATION = re.compile(r"(\d+)(h|m(?!s)|s)")
UNIT_S = {"h": 3_600, "m": 60, "s": 1}
RIGHTS = {
    1: "the user needs ALL PRIVILEGES (an admin) to create databases, or somebody else creates them",
    2: "the token needs to read and write buckets and dbrps of the organisation, or somebody else creates them",
    3: "the token must be an admin token to create databases, or somebody else creates them",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A database that should be there; `days` 0 keeps for ever."""

    name: str
    days: int


@dataclass(frozen=True, slots=True)
class Step:
    """What was found or done. `state`: there, missing, created, differs, changed, failed."""

    what: str
    name: str
    state: str
    said: str = ""

    def plain(self) -> dict[str, object]:
        """For a table or JSON."""
        return asdict(self)


class _Server(Protocol):
    """What differs between the versions: `days` of each database (None: not told), and how to make one."""

    version: int
    what: str  # what it calls a database

    async def days(self) -> dict[str, float | None] | Answer: ...
    async def create(self, wanted: Wanted) -> Answer: ...
    async def change(self, wanted: Wanted) -> Answer: ...
    async def mapping(self, wanted: Wanted, *, dry_run: bool) -> Step | None: ...


def wanted(store: settings.Store) -> Iterator[Wanted]:
    """All databases that the settings ask for."""
    for name in (store.database, *((store.database_confidential,) if store.confidential else ())):
        yield Wanted(name, store.retention_days)
        yield Wanted(f"{name}_1m", store.retention_1m_days)
        yield Wanted(f"{name}_1h", store.retention_1h_days)


def major(answer: Answer) -> int:
    """The major version that `/ping` tells: v2.7.12 → 2; 0 when it tells none."""
    found = re.match(r"v?(\d+)\.", answer.version)
    return int(found.group(1)) if found else 0


async def prepare(store: settings.Store, *, dry_run: bool = False, change: bool = False) -> list[Step]:
    """Create what is missing and tell the rest; never raises for a server that is down or refuses."""
    async with Link(store) as link:
        ping = await link.ask("GET", "/ping")
        if not ping.ok:
            return [Step("server", store.url, "failed", f"{ping.reason}: {ping.detail()}")]
        version = 1 if store.kind == "influx1" else major(ping)
        server = await _server(link, store, version)
        if isinstance(server, Step):
            return [server]
        there = await server.days()
        if isinstance(there, Answer):
            return [_failed("server", store.url, there, server.version)]
        steps = []
        for each in wanted(store):
            step = await _settle(server, each, there, dry_run=dry_run, change=change)
            steps.append(step)
            if step.state not in ("failed", "missing") and (mapping := await server.mapping(each, dry_run=dry_run)) is not None:
                steps.append(mapping)
        return steps


async def _server(link: Link, store: settings.Store, version: int) -> _Server | Step:
    if version == 1 and store.kind == "influx1":
        return _Server1(link)
    if version == 3:  # noqa: PLR2004 - InfluxDB 3
        return _Server3(link)
    if version != 2:  # noqa: PLR2004 - InfluxDB 2
        said = f"is version {version or 'unknown'}; store.kind influx2 is for InfluxDB 2 and 3, influx1 for 1.x"
        return Step("server", store.url, "failed", said)
    found = await link.ask("GET", "/api/v2/orgs", {"org": store.org})
    orgs = found.document().get("orgs") or []
    if not found.ok or not orgs:
        said = f"{found.detail()}; store.org must be an organisation that the token may read"
        return Step("organisation", store.org, "failed", said)
    return _Server2(link, str(orgs[0]["id"]))


async def _settle(server: _Server, each: Wanted, there: dict[str, float | None], *, dry_run: bool, change: bool) -> Step:
    what = server.what
    if each.name in there:
        return await _compare(server, each, there[each.name], Step(what, each.name, "there"), change=change and not dry_run)
    if dry_run:
        return Step(what, each.name, "missing", f"would be created, kept {_kept(each.days)}")
    answer = await server.create(each)
    if not answer.ok:
        return _failed(what, each.name, answer, server.version)
    return Step(what, each.name, "created", f"kept {_kept(each.days)}")


async def _compare(server: _Server, each: Wanted, days: float | None, step: Step, *, change: bool) -> Step:
    if days is None:
        return replace(step, said="the server does not tell how long it keeps")
    if days == each.days:
        return replace(step, said=f"kept {_kept(days)}")
    if not change:
        said = f"kept {_kept(days)}, the settings say {_kept(each.days)}; --change makes it so, and a shorter time deletes"
        return replace(step, state="differs", said=said)
    answer = await server.change(each)
    if not answer.ok:
        return _failed(step.what, step.name, answer, server.version)
    return replace(step, state="changed", said=f"kept {_kept(each.days)}, before: {_kept(days)}")


def _failed(what: str, name: str, answer: Answer, version: int) -> Step:
    said = f"{answer.reason}: {answer.detail()}"
    if answer.reason == "not_authorised":
        said = f"{said}; {RIGHTS.get(version, '')}"
    return Step(what, name, "failed", said)


def _kept(days: float) -> str:
    return f"{days:g} days" if days else "for ever"


class _Server1:
    """1.x by InfluxQL. An error inside a "200 OK" counts as a 400."""

    version = 1
    what = "database"

    def __init__(self, link: Link) -> None:
        self._link = link
        self._policies: dict[str, str] = {}

    async def days(self) -> dict[str, float | None] | Answer:
        found = await self._query("SHOW DATABASES")
        if not found.ok:
            return found
        result: dict[str, float | None] = {}
        for (name,) in _rows(found, "name"):
            policies = await self._query(f"SHOW RETENTION POLICIES ON {quoted(name)}")
            for policy, duration, default in _rows(policies, "name", "duration", "default"):
                if default:
                    self._policies[name] = policy
                    result[name] = _seconds(duration) / S_PER_DAY
            result.setdefault(name, None)
        return result

    async def create(self, wanted: Wanted) -> Answer:
        return await self._query(create_database(wanted.name, wanted.days))

    async def change(self, wanted: Wanted) -> Answer:
        policy = self._policies.get(wanted.name, "autogen")
        duration = f"{wanted.days}d" if wanted.days else "INF"
        return await self._query(
            f"ALTER RETENTION POLICY {quoted(policy)} ON {quoted(wanted.name)} DURATION {duration} SHARD DURATION 0s"
        )

    async def mapping(self, wanted: Wanted, *, dry_run: bool) -> Step | None:  # noqa: ARG002 - InfluxQL is at home here
        return None

    async def _query(self, influxql: str) -> Answer:
        answer = await self._link.ask("POST", "/query", {"q": influxql})
        wrong = next((r["error"] for r in answer.document().get("results", ()) if "error" in r), "")
        return Answer(400, str(wrong)) if wrong else answer


class _Server2:
    """2.x: buckets and the mappings that InfluxQL needs."""

    version = 2
    what = "bucket"

    def __init__(self, link: Link, org: str) -> None:
        self._link = link
        self._org = org
        self._ids: dict[str, str] = {}

    async def days(self) -> dict[str, float | None] | Answer:
        result: dict[str, float | None] = {}
        page: list[dict[str, Any]] = [{}] * PAGE
        while len(page) == PAGE:
            query = {"orgID": self._org, "limit": str(PAGE), "offset": str(len(self._ids))}
            found = await self._link.ask("GET", "/api/v2/buckets", query)
            if not found.ok:
                return found
            page = found.document().get("buckets", [])
            for bucket in page:
                self._ids[bucket["name"]] = bucket["id"]
                seconds = sum(rule.get("everySeconds", 0) for rule in bucket.get("retentionRules", ()))
                result[bucket["name"]] = seconds / S_PER_DAY
        return result

    async def create(self, wanted: Wanted) -> Answer:
        body = {"orgID": self._org, "name": wanted.name, "retentionRules": _rules(wanted)}
        answer = await self._link.ask("POST", "/api/v2/buckets", body=json.dumps(body))
        if answer.ok:
            self._ids[wanted.name] = answer.document().get("id", "")
        return answer

    async def change(self, wanted: Wanted) -> Answer:
        rules = _rules(wanted) or [{"type": "expire", "everySeconds": 0}]
        path = f"/api/v2/buckets/{self._ids[wanted.name]}"
        return await self._link.ask("PATCH", path, body=json.dumps({"retentionRules": rules}))

    async def mapping(self, wanted: Wanted, *, dry_run: bool) -> Step | None:
        query = {"orgID": self._org, "db": wanted.name}
        found = await self._link.ask("GET", "/api/v2/dbrps", query)
        if not found.ok:
            return _failed("mapping", wanted.name, found, 2)
        mappings = [m for m in found.document().get("content") or [] if m.get("database") == wanted.name and m.get("default")]
        if mappings and mappings[0].get("bucketID") != self._ids[wanted.name]:
            return Step("mapping", wanted.name, "differs", "InfluxQL finds another bucket under this name; remove that mapping")
        if mappings:
            return Step("mapping", wanted.name, "there", "the server's own" if mappings[0].get("virtual") else "")
        if dry_run:
            return Step("mapping", wanted.name, "missing", "would be created")
        body = {
            "orgID": self._org,
            "bucketID": self._ids[wanted.name],
            "database": wanted.name,
            "retention_policy": "autogen",
            "default": True,
        }
        answer = await self._link.ask("POST", "/api/v2/dbrps", body=json.dumps(body))
        return Step("mapping", wanted.name, "created") if answer.ok else _failed("mapping", wanted.name, answer, 2)


class _Server3:
    """3: databases; InfluxQL finds them by their name."""

    version = 3
    what = "database"
    PATH = "/api/v3/configure/database"

    def __init__(self, link: Link) -> None:
        self._link = link

    async def days(self) -> dict[str, float | None] | Answer:
        found = await self._link.ask("GET", self.PATH, {"format": "json"})
        if not found.ok:
            return found
        result: dict[str, float | None] = {row["iox::database"]: None for row in _objects(found)}
        sql = "SELECT database_name, retention_period_ns FROM system.databases"
        told = await self._link.ask("GET", "/api/v3/query_sql", {"db": "_internal", "q": sql, "format": "json"})
        for row in _objects(told):  # none from versions before it was told
            if row.get("database_name") in result:
                result[row["database_name"]] = (row.get("retention_period_ns") or 0) / NS_PER_S / S_PER_DAY
        return result

    async def create(self, wanted: Wanted) -> Answer:
        body = {"db": wanted.name, **({"retention_period": f"{wanted.days}d"} if wanted.days else {})}
        return await self._link.ask("POST", self.PATH, body=json.dumps(body))

    async def change(self, wanted: Wanted) -> Answer:
        body = {"db": wanted.name, "retention_period": f"{wanted.days}d" if wanted.days else None}
        return await self._link.ask("PUT", self.PATH, body=json.dumps(body))

    async def mapping(self, wanted: Wanted, *, dry_run: bool) -> Step | None:  # noqa: ARG002 - InfluxQL is at home here
        return None


def quoted(name: str) -> str:
    """An InfluxQL identifier."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def create_database(name: str, days: int) -> str:
    """The InfluxQL that creates a database which keeps for so long."""
    return f"CREATE DATABASE {quoted(name)} WITH DURATION {f'{days}d' if days else 'INF'} REPLICATION 1 NAME {quoted('autogen')}"


async def ensure_database(link: Link, name: str) -> Answer | None:
    """Create a 1.x database unless it is there, which every user who may write to it can see; None when all is well.

    It keeps for ever: what is older than a retention is refused, and nobody has asked for one by `iotcore store init` yet.
    """
    found = await link.ask("POST", "/query", {"q": "SHOW DATABASES"})
    if found.ok and (name,) in _rows(found, "name"):
        return None
    if not found.ok:
        return found
    answer = await link.ask("POST", "/query", {"q": create_database(name, 0)})
    return None if answer.ok and '"error"' not in answer.text else answer


def _rules(wanted: Wanted) -> list[dict[str, object]]:
    return [{"type": "expire", "everySeconds": wanted.days * S_PER_DAY}] if wanted.days else []


def _objects(answer: Answer) -> list[dict[str, Any]]:
    """The objects of a JSON list."""
    try:
        found = json.loads(answer.text) if answer.ok else []
    except ValueError:
        return []
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _rows(answer: Answer, *columns: str) -> Iterator[tuple[Any, ...]]:
    for result in answer.document().get("results", ()):
        for series in result.get("series", ()):
            for values in series.get("values", ()):
                row = dict(zip(series["columns"], values, strict=True))
                yield tuple(row[column] for column in columns)


def _seconds(duration: str) -> int:
    """9600h0m0s → 34,560,000."""
    return sum(int(number) * UNIT_S[unit] for number, unit in DURATION.findall(duration))
