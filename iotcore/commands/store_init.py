"""`iotcore store init` and what the doctor sees of the store: databases, rights, version, clock."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from iotcore import settings as config
from iotcore.clock import Clock
from iotcore.journal.database import connect_readonly
from iotcore.settings import Settings
from iotcore.telemetry.influx_answers import Answer
from iotcore.telemetry.influx_link import Link
from iotcore.telemetry.influx_setup import Step, major, prepare
from iotcore.telemetry.stores import CONFIDENTIAL_DB, TELEMETRY_DB

MAX_SKEW_S = 30.0  # retention is by the server's clock; a `Date` header has whole seconds
NOTHING = b"# iotcore doctor\n"  # line protocol with a comment alone: shows rights and existence, and stores nothing
LOOPBACK = ("127.0.0.1", "::1", "localhost")


async def steps(settings: Settings, *, dry_run: bool, change: bool) -> list[Step]:
    """Create what is missing and tell the rest; the embedded store only tells what it has."""
    if settings.store.kind == "embedded":
        return list(_files(settings))
    return await prepare(settings.store, dry_run=dry_run, change=change)


def _files(settings: Settings) -> Iterator[Step]:
    """The embedded store makes its files by itself."""
    for name in (TELEMETRY_DB, *((CONFIDENTIAL_DB,) if settings.store.confidential else ())):
        path = settings.folder / name
        if not path.exists():
            yield Step("file", str(path), "missing", "the telemetry process makes it at its start")
            continue
        try:
            with closing(connect_readonly(path)) as reader:
                series = reader.execute("SELECT count(*) FROM series").fetchone()[0]
        except sqlite3.Error as error:
            yield Step("file", str(path), "failed", str(error))
        else:
            yield Step("file", str(path), "there", f"{series} series, {path.stat().st_size / 1e6:.1f} MB")


async def examine(store: config.Store, clock: Clock) -> tuple[str, str]:
    """What is to be said of an InfluxDB, and what to do about it ("" when it is well). Writes nothing."""
    async with Link(store) as link:
        ping = await link.ask("GET", "/ping")
        if not ping.ok:
            return f"{ping.reason}: {ping.detail()}", "Check store.url, its credentials, and that it runs; telemetry waits."
        said = f"InfluxDB {ping.version.removeprefix('v') or 'of unknown version'} at {store.url}"
        if urlsplit(store.url).hostname not in LOOPBACK and store.url.startswith("http://") and (store.token or store.password):
            said += " (its secret crosses the network in clear: https:// would not)"
        for database in (store.database, *((store.database_confidential,) if store.confidential else ())):
            answer = await _may_write(link, store, database, major(ping))
            if not answer.ok and answer.status != 400:  # noqa: PLR2004 - a server that wants more than a comment, and lets us ask
                remedy = "Run `iotcore store init` with the rights to create it, or give the token or user the right to write."
                return f"{said}; {database}: {answer.reason}: {answer.detail()}", remedy
        skew_s = _skew_s(ping.date, clock)
        if abs(skew_s) > MAX_SKEW_S:
            return f"{said}; its clock is {skew_s:+.0f} s off ours", "Let both machines keep time: timedatectl set-ntp true."
    # our own user of 1.x makes a database with its first line; one that may not is found above, or by the keeper
    return _compared(said, await prepare(store, dry_run=True), made_when_needed=store.kind == "influx1")


async def _may_write(link: Link, store: config.Store, database: str, version: int) -> Answer:
    if store.kind == "influx1":
        return await link.ask("POST", "/write", {"db": database, "precision": "ns"}, NOTHING)
    if version == 3:  # noqa: PLR2004 - InfluxDB 3, where a write would create the database
        return await link.ask("GET", "/api/v3/configure/database", {"format": "json"})
    return await link.ask("POST", "/api/v2/write", {"org": store.org, "bucket": database, "precision": "ns"}, NOTHING)


def _skew_s(date: str, clock: Clock) -> float:
    try:
        told = parsedate_to_datetime(date)
    except ValueError:
        return 0.0
    return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp() - clock.wall_ms() / 1000.0


def _compared(said: str, found: list[Step], *, made_when_needed: bool) -> tuple[str, str]:
    wrong = [step for step in found if step.state == "failed" or (step.state == "missing" and not made_when_needed)]
    if wrong:
        names = ", ".join(f"{step.name} {step.state}" for step in wrong)
        return f"{said}; {names}: {wrong[0].said}", "Run `iotcore store init`."
    differs = [f"{step.name} is {step.said.partition(';')[0]}" for step in found if step.state == "differs"]
    missing = [f"{step.name} is not there yet" for step in found if step.state == "missing"]
    return "; ".join([said, *(differs + missing or ["databases and retention as the settings say"])]), ""
