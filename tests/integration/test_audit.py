"""The audit on SQLite and on a real PostgreSQL: no change without an entry, signed heads, a check that finds what was done."""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from prometheus_client import REGISTRY

from iotcore.app import audit_heads
from iotcore.clock import ManualClock
from iotcore.commands import audit as commands
from iotcore.commands.moments import utc
from iotcore.errors import StartError, StoreError
from iotcore.provision import heads
from iotcore.registry import audit
from iotcore.registry.database import connect
from iotcore.registry.records import Certificate
from iotcore.registry.store import Registry, open_registry
from iotcore.registry.tables import DeviceRow
from iotcore.settings import Settings, check
from tests.support import commands as command_line
from tests.support.postgres import Postgres
from tests.support.registered import SPECS, city
from tests.support.until import until

pytestmark = pytest.mark.timeout(120)
BOOKS = ("audit", "audit_head", "change")  # what keeps the account of the other tables
MANY = 1_000_000  # entries
GROWTH_LIMIT_KIB = 40_000  # more than a small chain takes; a million entries in memory would be 500,000
BATCH = 50_000
MEASURED = """
import resource, sys
from iotcore.cli import main
try:
    main(sys.argv[1:])
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    document: dict[str, Any] = {"data": str(tmp_path / "data")}
    (tmp_path / "data").mkdir()
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        document["registry"] = {"url": server.url(server.fresh())}
    return check(document, "test")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def registry(settings: Settings, clock: ManualClock) -> AsyncIterator[Registry]:
    async with await open_registry(settings.registry_url, clock) as opened:
        await opened.import_city(city(), SPECS, "tester")
        yield opened


async def sql(settings: Settings, *statements: str) -> list[Any]:
    """What somebody with the database's password can do; the rows of the last statement."""
    rows: list[Any] = []
    if not settings.registry.url:
        connection = sqlite3.connect(settings.registry_url.removeprefix("sqlite://"))
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        connection.commit()
        connection.close()
        return rows
    server = await asyncpg.connect(settings.registry.url)
    await server.execute("SET search_path TO registry")
    for statement in statements:
        rows = [tuple(row) for row in await server.fetch(statement)]
    await server.close()
    return rows


async def rows_of(settings: Settings) -> dict[str, set[str]]:
    """Every row of every table that is no book."""
    listed = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    if settings.registry.url:
        listed = "SELECT tablename FROM pg_tables WHERE schemaname = 'registry'"
    tables = [name for (name,) in await sql(settings, listed) if name not in BOOKS]
    return {table: {repr(row) for row in await sql(settings, f"SELECT * FROM {table}")} for table in tables}


async def entries(registry: Registry) -> list[audit.Entry]:
    return await registry.audit_entries()


Step = Callable[[Registry], Awaitable[object]]
CERTIFICATE = Certificate("0a", "d1", "fire", 9, "ff")
LIFE: list[tuple[Step, list[str]]] = [  # a device's life, each step with every entry that it has to leave
    (lambda registry: registry.import_city(city(3), SPECS, "t"), ["premises.add", "zone.add", *["device.change"] * 3]),
    (lambda registry: registry.create_token("d1", 60.0, "t"), ["token.create"]),
    (lambda registry: registry.record_certificate(CERTIFICATE, "ca"), ["certificate.issue", "device.state"]),
    (lambda registry: registry.activate("d1", "ingest"), ["device.state"]),
    (lambda registry: registry.set_state("d1", "suspended", "t"), ["device.state"]),
    (lambda registry: registry.revoke_certificate("0a", "t"), ["certificate.revoke"]),
    (lambda registry: registry.keep_credential("d2", "$7$one", "t"), ["credential.create", "device.state"]),
    (lambda registry: registry.keep_credential("d2", "$7$two", "t"), ["credential.rotate"]),
    (lambda registry: registry.revoke_credential("d2", "t"), ["credential.revoke"]),
    (lambda registry: registry.intent("acknowledge", "F1", "t"), ["incident.acknowledge"]),
    (lambda registry: registry.intent("acknowledge", "F1", "t"), []),  # asked twice is asked once
    (lambda registry: registry.note("est", "enrolment_refused", "d9"), ["enrolment_refused"]),
]


async def test_every_step_of_a_life_leaves_its_entries_and_what_leaves_none_changed_nothing(
    registry: Registry, settings: Settings
) -> None:
    for step, expected in LIFE:
        before, known = await rows_of(settings), len(await entries(registry))
        await step(registry)
        assert [entry.deed.action for entry in (await entries(registry))[known:]] == expected
        assert expected or await rows_of(settings) == before
    assert await registry.verify_audit() == []


async def test_a_change_that_nobody_noted_does_not_commit(registry: Registry, settings: Settings, clock: ManualClock) -> None:
    before, known = await rows_of(settings), await entries(registry)
    database = await connect(settings.registry_url, clock)
    with pytest.raises(StoreError, match="without an audit entry"):
        async with database.writing() as work:
            await DeviceRow.filter(id="d1").using_db(work.db).update(state="active")
    async with database.writing() as work:
        assert await DeviceRow.filter(id="nobody").using_db(work.db).update(state="active") == 0
    async with database.writing() as work:
        await DeviceRow.filter(id="d1").using_db(work.db).update(title="Bếp")
        work.note("t", "device.change", "d1", title="Bếp")
    await database.close()
    after = await rows_of(settings)
    assert {table for table in after if after[table] != before[table]} == {"device"}
    assert not any("'d1'" in row and "active" in row for row in after["device"])
    assert len(await entries(registry)) == len(known) + 1


async def test_a_head_is_signed_and_appended_and_the_chain_is_held_against_all_of_them(
    registry: Registry, settings: Settings, clock: ManualClock
) -> None:
    for n in range(3):
        await registry.note("t", "something", f"s{n}")
        await audit_heads.export(settings, registry, clock)
    path = settings.heads_folder / "heads.jsonl"
    assert [json.loads(line)["seq"] for line in path.read_text().splitlines()] == [12, 13, 14]
    verdict = await commands.verify(settings, clock, path, None)
    assert (verdict.whole, verdict.heads, verdict.end.seq) == (True, 3, 14)
    key = settings.folder / "audit" / "head.key"
    assert b"ENCRYPTED" in key.read_bytes()
    assert key.stat().st_mode & 0o077 == 0


REBUILT = "UPDATE audit_head SET seq = 9, hash = (SELECT hash FROM audit WHERE seq = 9)"
SWAP = (
    "UPDATE audit SET seq = -1 WHERE seq = 3",
    "UPDATE audit SET seq = 3 WHERE seq = 7",
    "UPDATE audit SET seq = 7 WHERE seq = -1",
)


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (("UPDATE audit SET detail = '{}' WHERE seq = 5",), [(5, "edited")]),
        (("DELETE FROM audit WHERE seq = 5",), [(5, "missing")]),
        (SWAP, [(3, "reordered"), (7, "reordered")]),
        (("DELETE FROM audit WHERE seq > 9", REBUILT), [(10, "truncated")]),
    ],
    ids=["edit", "delete", "reorder", "truncate"],
)
async def test_what_was_done_to_it_is_found_against_an_exported_head_and_placed(
    registry: Registry, settings: Settings, clock: ManualClock, statements: tuple[str, ...], expected: list[tuple[int, str]]
) -> None:
    await audit_heads.export(settings, registry, clock)
    path = settings.heads_folder / "heads.jsonl"
    await sql(settings, *statements)
    verdict = await commands.verify(settings, clock, path, None)
    assert [(one.seq, one.reason) for one in verdict.breaks] == expected
    if expected[0][1] == "truncated":  # nothing in the database itself shows it, so the keeper must not sign what is left
        assert await registry.verify_audit() == []
        with pytest.raises(StoreError, match="exported last"):
            await audit_heads.export(settings, registry, clock)
        assert len(path.read_text().splitlines()) == 1


async def test_the_figures_say_whether_the_chain_is_what_was_exported_and_how_old_the_head_is(
    registry: Registry, settings: Settings, clock: ManualClock
) -> None:
    def figure(name: str) -> float:
        (family,) = (one for one in REGISTRY.collect() if one.name == name)
        return family.samples[0].value if family.samples else math.nan

    async def run_until(done: Callable[[], bool]) -> None:
        running = asyncio.create_task(audit_heads.run(settings, registry, clock))
        await until(done, 10.0)
        running.cancel()
        await asyncio.wait({running})

    await run_until(lambda: figure("iotcore_audit_changed") == 0.0)
    clock.advance(3_600.0)
    assert figure("iotcore_audit_head_age_seconds") == pytest.approx(3_600.0)
    await sql(settings, "DELETE FROM audit WHERE seq > 9", REBUILT)
    await run_until(lambda: figure("iotcore_audit_changed") == 1.0)
    assert math.isnan(figure("iotcore_audit_head_age_seconds")), "this process has exported none"


async def test_a_head_that_was_changed_or_signed_by_another_is_no_head(
    registry: Registry, settings: Settings, clock: ManualClock, tmp_path: Path
) -> None:
    line = await audit_heads.export(settings, registry, clock)
    path = settings.heads_folder / "heads.jsonl"
    forged = path.read_text().replace(f'"seq":{line.seq}', '"seq":3')
    path.write_text(f"{forged}{{}}\nnot JSON\n", encoding="utf-8")
    other = heads.Signer.ensure(tmp_path / "other", b"a passphrase of this test")
    heads.append(path, other.sign(audit.Head(2, "0" * 64), 0.0))
    verdict = await commands.verify(settings, clock, path, None)
    assert len(verdict.problems) == 5  # four lines, and that none is left
    assert not verdict.whole
    with path.open("ab") as file:  # a power cut in the middle of a line costs that line alone
        file.write(b'{"seq":1')
    await audit_heads.export(settings, registry, clock)
    verdict = await commands.verify(settings, clock, path, None)
    assert (verdict.heads, verdict.breaks, len(verdict.problems)) == (1, [], 5)


async def test_the_key_is_neither_opened_by_another_passphrase_nor_made_anew(tmp_path: Path) -> None:
    heads.Signer.ensure(tmp_path, b"a passphrase of this test")
    with pytest.raises(StartError, match="does not open"):
        heads.Signer.ensure(tmp_path, b"another passphrase")
    (tmp_path / "head.key").unlink()
    with pytest.raises(StartError, match="missing"):
        heads.Signer.ensure(tmp_path, b"a passphrase of this test")


def iotcore(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    """The command as people run it."""
    config = settings.folder / "iotcore.toml"
    url = f'[registry]\nurl = "{settings.registry.url}"\n' if settings.registry.url else ""
    config.write_text(f'data = "{settings.data}"\n{url}', encoding="utf-8")
    return command_line.run("audit", *words, "--config", config)


async def test_the_commands_say_it_and_exit_so(registry: Registry, settings: Settings, clock: ManualClock) -> None:
    await audit_heads.export(settings, registry, clock)
    path = str(settings.heads_folder / "heads.jsonl")
    done = iotcore(settings, "verify", "--head", path)
    assert (done.returncode, done.stdout) == (0, "the audit is whole: 11 entries and holds 1 exported heads\n")
    await sql(settings, "UPDATE audit SET detail = '{}' WHERE seq = 5")
    done = iotcore(settings, "verify", "--head", path, "-o", "json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["breaks"][0] | {"detail": ""} == {"entry": 5, "reason": "edited", "detail": ""}
    assert "BAD  edited at entry 5" in iotcore(settings, "verify").stdout


def shown(settings: Settings, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in iotcore(settings, "show", "-o", "json", *words).stdout.splitlines()]


async def test_what_is_shown_is_what_was_asked_for(registry: Registry, settings: Settings, clock: ManualClock) -> None:
    await registry.set_state("air-1", "active", "Duty officer")
    clock.advance(60.0)
    await registry.note("est", "enrolment_refused", "=cmd|'/c calc'!A1", "\x1b[2J")
    assert [one["seq"] for one in shown(settings)] == list(range(1, 14))
    assert [one["seq"] for one in shown(settings, "--last", "2")] == [12, 13]
    assert [one["subject"] for one in shown(settings, "--by", "Duty officer")] == ["air-1"]
    assert {one["action"] for one in shown(settings, "--action", "device.")} == {"device.add", "device.state"}
    assert [one["seq"] for one in shown(settings, "--action", "device.state", "--subject", "air-1")] == [12]
    last_ms = clock.wall_ms()
    since = utc(last_ms - 1_000)
    assert [one["seq"] for one in shown(settings, "--from", since)] == [13]
    assert len(shown(settings, "--to", since, "--last", "0")) == 12
    assert "\x1b" not in iotcore(settings, "show").stdout
    assert "'=cmd" in iotcore(settings, "show", "-o", "csv", "--last", "1").stdout


def grown(path: Path, count: int) -> None:
    """A chain of so many entries, written past the registry, which would take an hour."""
    connection = sqlite3.connect(path)
    (seq, hash_) = connection.execute("SELECT seq, hash FROM audit_head").fetchone()
    while seq < count:
        rows = []
        for _ in range(min(BATCH, count - seq)):
            seq += 1
            entry = audit.link(
                hash_, audit.Deed(seq, 1_700_000_000_000 + seq, "ca", "device.state", f"d{seq % 999}", '{"after":"active"}')
            )
            hash_ = entry.hash
            rows.append((*entry.deed, hash_))
        connection.executemany("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    connection.execute("UPDATE audit_head SET seq = ?, hash = ?", (seq, hash_))
    connection.commit()
    connection.close()


def peak_kib(settings: Settings) -> int:
    """The peak memory of a whole `iotcore audit verify`."""
    command = [sys.executable, "-c", MEASURED, "audit", "verify", "--config", str(settings.folder / "iotcore.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    assert "the audit is whole" in done.stdout, done.stderr
    return int(done.stdout.splitlines()[-1])


@pytest.mark.soak
@pytest.mark.timeout(400)
async def test_a_million_entries_are_walked_in_bounded_memory_and_an_edit_among_them_is_found(tmp_path: Path) -> None:
    settings = check({"data": str(tmp_path)}, "test")
    async with await open_registry(settings.registry_url, ManualClock()) as registry:
        await registry.import_city(city(), SPECS, "tester")
        iotcore(settings, "verify")  # writes the settings file
        small = peak_kib(settings)
        grown(tmp_path / "registry.db", MANY)
        assert peak_kib(settings) - small < GROWTH_LIMIT_KIB
        await sql(settings, f"UPDATE audit SET subject = 'd1' WHERE seq = {MANY - 2}")
        assert [(one.seq, one.reason) for one in await registry.verify_audit()] == [(MANY - 2, "edited")]


async def test_the_keeper_exports_at_its_start(tmp_path: Path) -> None:
    settings = check({"data": str(tmp_path), "audit": {"folder": str(tmp_path / "elsewhere")}}, "test")
    async with await open_registry(settings.registry_url, ManualClock()) as registry:
        await registry.import_city(city(), SPECS, "tester")
    config = tmp_path / "iotcore.toml"
    config.write_text(
        f'data = "{tmp_path}"\n[audit]\nfolder = "{tmp_path / "elsewhere"}"\n[metrics]\nport = 0\n', encoding="utf-8"
    )
    path = settings.heads_folder / "heads.jsonl"
    command = [sys.executable, "-m", "iotcore", "run", "keeper", "--config", str(config)]
    keeper = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(40.0):
            while not (path.exists() and path.read_bytes().endswith(b"\n")):
                assert keeper.returncode is None
                await asyncio.sleep(0.1)
    finally:
        keeper.terminate()
        await keeper.wait()
    verdict = await commands.verify(settings, ManualClock(), path, None)
    assert (verdict.whole, verdict.heads, verdict.end.seq) == (True, 1, 11)
