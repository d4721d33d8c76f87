"""The steps of the registry's schema, on SQLite and on a real PostgreSQL: both ways, with rows, at once, and killed half way."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tortoise.exceptions import IntegrityError
from tortoise.utils import get_schema_sql

from iotcore import cli
from iotcore.clock import ManualClock
from iotcore.errors import StartError
from iotcore.process import home
from iotcore.registry import audit, migrations
from iotcore.registry.database import bare
from iotcore.registry.migrations import STEPS, shape
from iotcore.registry.migrations.step import Loss, Step, postgres, rebuilt, spoken
from iotcore.registry.store import open_registry
from tests.support.postgres import Postgres
from tests.support.registered import SPECS
from tests.support.registry_sql import SQLITE, sql

pytestmark = pytest.mark.timeout(90)

FIRST = audit.link(audit.GENESIS, audit.Deed(1, 1_700_000_000_000, "tester", "device.add", "d1", "{}"))
# Rows as a registry of step 1 holds them, in the order of their references: columns, values
ROWS = {
    "premises": (
        "id, name, address, latitude, longitude, account, key_site",
        "'p1', 'Chợ', '1 Lê Lợi', 19.8, 105.7, '1001', {true}",
    ),
    "zone": ("id, premises_id, number, floor, name", "'z1', 'p1', 1, '2', 'Bếp'"),
    "device": (
        "id, title, model, state, parent_id, premises_id, zone_id, connection",
        "'d1', 'Khói', 'smoke-heat', 'active', NULL, 'p1', 'z1', ''",
    ),
    "claim_token": ("hash, device_id, expires_ms, used_ms", "'t1', 'd1', 9, NULL"),
    "credential": ("device_id, hash, made_ms", "'d1', 'h', 5"),
    "certificate": (
        "serial, cn, anchor, not_after_ms, fingerprint, issued_ms, revoked_ms",
        "'0a', 'd1', 'fire', 9, 'ff', 1, NULL",
    ),
    "intent": ('id, kind, key, "by", at_ms', "1, 'reset', 'i1', 'x', 4"),
    "change": ("id, kind, key, at_ms", "1, 'device', 'd1', 3"),
    "audit": (
        'seq, at_ms, "by", action, subject, detail, hash',
        f"1, 1700000000000, 'tester', 'device.add', 'd1', '{{}}', '{FIRST.hash}'",
    ),
}
ZONE = """"id" VARCHAR(64) NOT NULL PRIMARY KEY, "number" INT NOT NULL, "floor" VARCHAR(40) NOT NULL,
    "name" VARCHAR(200) NOT NULL,
    "premises_id" VARCHAR(64) NOT NULL REFERENCES "premises" ("id") ON DELETE RESTRICT"""
ZONE_COLUMNS = "id, number, floor, name, premises_id"
ONE_NUMBER = 'CONSTRAINT "uid_zone_premise_e8d13d" UNIQUE ("premises_id", "number")'
# A step that no release has: a table, and a changed one that others refer to, which SQLite makes anew
EXTRA = Step(
    9001,
    "tags",
    forward=(
        'CREATE TABLE "tag" ("id" {serial}, "ok" {bool} NOT NULL, "device_id" VARCHAR(64) NOT NULL REFERENCES "device" ("id"))',
        *rebuilt("zone", f'{ZONE}, "colour" VARCHAR(16) UNIQUE, {ONE_NUMBER}', ZONE_COLUMNS),
        *postgres('ALTER TABLE "zone" ADD COLUMN "colour" VARCHAR(16) UNIQUE'),
    ),
    backward=(
        'DROP TABLE "tag"',
        *rebuilt("zone", f"{ZONE}, {ONE_NUMBER}", ZONE_COLUMNS),
        *postgres('ALTER TABLE "zone" DROP COLUMN "colour"'),
    ),
    losses=(Loss("tags", "SELECT count(*) AS n FROM tag"),),
)
BROKEN = Step(
    9002,
    "broken",
    forward=(
        'CREATE TABLE "one" ("id" INT PRIMARY KEY)',
        'CREATE TABLE "two" ("one" INT REFERENCES "one" ("id"))',
        'INSERT INTO "two" VALUES (7)',
    ),
    backward=(),
)
MORE = (*STEPS, EXTRA)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def is_sqlite(url: str) -> bool:
    return url.startswith(SQLITE)


async def advance(url: str, steps: tuple[Step, ...] = MORE, to: int | None = None) -> list[int]:
    async with bare(url) as (db, schema):
        return [step.number for step in await migrations.apply(db, schema, 1_800_000_000_000, steps, to)]


async def go_back(url: str, to: int, *, lose_data: bool = False) -> list[int]:
    async with bare(url) as (db, schema):
        done = await migrations.revert(db, schema, 1_800_000_000_000, MORE, to, lose_data=lose_data)
    return [step.number for step in done]


async def schema_of(url: str) -> dict[str, shape.Shape]:
    async with bare(url) as (db, _):
        return await shape.read(db)


async def fill(url: str) -> None:
    """A registry's rows, as they were in the tables of step 1."""
    true = "1" if is_sqlite(url) else "true"
    inserts = [f"INSERT INTO {table} ({names}) VALUES ({row.replace('{true}', true)})" for table, (names, row) in ROWS.items()]
    await sql(url, *inserts, f"UPDATE audit_head SET seq = 1, hash = '{FIRST.hash}'")
    if not is_sqlite(url):
        await sql(url, "SELECT setval('intent_id_seq', 1), setval('change_id_seq', 1)")


async def rows_of(url: str) -> dict[str, list[tuple[object, ...]]]:
    return {table: await sql(url, f"SELECT {names} FROM {table} ORDER BY 1") for table, (names, _) in ROWS.items()}


async def made_before_steps(url: str) -> None:
    """A registry as iotcore made it when there were no steps: the tables of step 1 and rows, no table of steps."""
    dialect = "sqlite" if is_sqlite(url) else "postgres"
    await sql(url, *spoken(STEPS[0].forward, dialect))
    await fill(url)


def test_steps_are_in_order_and_every_one_has_a_way_back() -> None:
    numbers = [step.number for step in STEPS]
    assert numbers == sorted(set(numbers))
    assert len({step.name for step in STEPS}) == len(STEPS)
    assert [step.number for step in STEPS if not step.backward] == [1]


async def test_the_steps_make_the_schema_that_the_models_describe(
    registry_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    await (await open_registry(registry_url)).close()
    other = f"{SQLITE}{tmp_path / 'other.db'}"
    if not is_sqlite(registry_url):
        server: Postgres = request.getfixturevalue("postgres_server")
        other = server.url(server.fresh())
        await sql(other, "SELECT 1")  # makes the schema
    async with bare(other) as (db, _):
        await db.execute_script(get_schema_sql(db, safe=False))
    described = await schema_of(other)
    assert len(described) >= 9
    assert await schema_of(registry_url) == described


async def test_a_registry_of_step_one_comes_to_the_newest_with_its_rows(registry_url: str, clock: ManualClock) -> None:
    assert await advance(registry_url, STEPS, to=1) == [1]
    await fill(registry_url)
    before = await rows_of(registry_url)
    async with await open_registry(registry_url, clock) as registry:
        entries = await registry.audit_entries()
        assert await registry.verify_audit() == []
        directory = await registry.directory(SPECS)
        assert (await registry.intent("reset", "i2", "x")) == 2  # numbers go on
    now = await rows_of(registry_url)
    assert {table: rows[: len(before[table])] for table, rows in now.items()} == before
    assert [(e.deed.action, e.deed.subject) for e in entries[1:]] == [
        ("registry.migrate", f"step {step.number}") for step in STEPS[1:]
    ]
    assert directory.devices["d1"].zone == "z1"
    assert directory.premises["p1"].key_site


async def test_a_registry_from_before_the_steps_is_taken_over(registry_url: str, clock: ManualClock) -> None:
    await made_before_steps(registry_url)
    before = await rows_of(registry_url)
    async with await open_registry(registry_url, clock) as registry:
        assert [e.deed.subject for e in await registry.audit_entries()] == ["d1", *(f"step {step.number}" for step in STEPS)]
        assert await registry.verify_audit() == []
    assert {table: rows[:1] for table, rows in (await rows_of(registry_url)).items()} == before
    assert await sql(registry_url, "SELECT number FROM migration ORDER BY 1") == [(step.number,) for step in STEPS]


async def test_the_oldest_registries_get_what_they_lack(registry_url: str, clock: ManualClock) -> None:
    """There was a time without passwords, and on PostgreSQL one with 64 characters for the key of an intent."""
    await made_before_steps(registry_url)
    await sql(registry_url, "DROP TABLE credential")
    if not is_sqlite(registry_url):
        await sql(registry_url, "ALTER TABLE intent ALTER COLUMN key TYPE VARCHAR(64)")
    async with await open_registry(registry_url, clock) as registry:
        assert await registry.intent("drop", "9" * 2000, "tester")
        assert await registry.credentials() == {}


async def test_tables_of_somebody_else_are_not_taken_over(registry_url: str) -> None:
    dialect = "sqlite" if is_sqlite(registry_url) else "postgres"
    strange = [one.replace(" NOT NULL UNIQUE", "") for one in spoken(STEPS[0].forward, dialect)]
    await sql(registry_url, *(one.replace('"title" VARCHAR(200) NOT NULL,', "") for one in strange))
    before = await schema_of(registry_url)
    with pytest.raises(StartError, match="not ours: ") as refused:
        await open_registry(registry_url)
    for difference in ("no index of premises over account", "no column device.title", "premises.account may be empty"):
        assert difference in refused.value.thing
    assert await schema_of(registry_url) == before


async def test_forward_back_and_forward_again_is_where_it_was(registry_url: str) -> None:
    await advance(registry_url, STEPS, to=1)
    await fill(registry_url)
    start, rows = await schema_of(registry_url), await rows_of(registry_url)
    await advance(registry_url)
    newest = await schema_of(registry_url)
    assert "tag" in newest
    assert await go_back(registry_url, 1) == [step.number for step in reversed(MORE[1:])]
    assert await schema_of(registry_url) == start
    assert {table: found[:1] for table, found in (await rows_of(registry_url)).items()} == rows
    assert await advance(registry_url) == [step.number for step in MORE[1:]]
    assert await schema_of(registry_url) == newest
    async with bare(registry_url) as (db, _):
        entries = [audit.Entry(audit.Deed(*row[:-1]), row[-1]) for row in await sql(
            registry_url, 'SELECT seq, at_ms, "by", action, subject, detail, hash FROM audit ORDER BY seq')]  # fmt: skip
        head = await db.execute_query_dict("SELECT seq, hash FROM audit_head")
    assert audit.verify(entries, head[0]["seq"], head[0]["hash"]) == []
    assert [entry.deed.action for entry in entries].count("registry.revert") == len(MORE) - 1


async def test_the_way_back_loses_nothing_unless_told_to(registry_url: str) -> None:
    await advance(registry_url, STEPS, to=1)
    await fill(registry_url)
    await advance(registry_url)
    await sql(registry_url, f"INSERT INTO tag (ok, device_id) VALUES ({'1' if is_sqlite(registry_url) else 'true'}, 'd1')")
    with pytest.raises(StartError, match=r"step 9001 \(tags\) would lose 1 tags\. --lose-data"):
        await go_back(registry_url, 1)
    assert await sql(registry_url, "SELECT count(*) FROM migration") == [(len(MORE),)]
    await go_back(registry_url, STEPS[-1].number, lose_data=True)
    ((detail,),) = await sql(registry_url, "SELECT detail FROM audit WHERE action = 'registry.revert'")
    assert json.loads(detail) == {"name": "tags", "lost": {"tags": 1}}
    with pytest.raises(StartError, match="no way back over step 1"):
        await go_back(registry_url, 0, lose_data=True)


async def test_the_way_back_over_places_says_what_has_no_place_there(registry_url: str, clock: ManualClock) -> None:
    await made_before_steps(registry_url)
    before = await rows_of(registry_url)
    await (await open_registry(registry_url, clock)).close()
    await sql(
        registry_url,
        "INSERT INTO area (id, kind, name) VALUES ('w1', 'ward', 'Phường 1')",
        "UPDATE premises SET area_id = 'w1', risk_class = 'high'",
        "UPDATE device SET serial = 'S1'",
    )
    with pytest.raises(StartError) as refused:
        await go_back(registry_url, 1)
    said = "would lose 1 areas, 1 risk classes or hydrants of premises, 1 serials, locations or labels of devices"
    assert said in refused.value.thing
    await go_back(registry_url, 1, lose_data=True)
    assert {table: rows[:1] for table, rows in (await rows_of(registry_url)).items()} == before


async def test_a_step_that_would_break_a_reference_is_not_taken(registry_url: str) -> None:
    await advance(registry_url, STEPS)
    with pytest.raises((StartError, IntegrityError), match=r"refer to nothing|violates foreign key"):
        await advance(registry_url, (*STEPS, BROKEN))
    assert "one" not in await schema_of(registry_url)
    await (await open_registry(registry_url)).close()


async def test_a_registry_of_a_newer_version_is_refused_and_stays_as_it_is(registry_url: str) -> None:
    await advance(registry_url)
    before = await schema_of(registry_url)
    with pytest.raises(StartError, match=r"newer iotcore: it has step 9001.*Install that version"):
        await open_registry(registry_url)
    assert await schema_of(registry_url) == before


async def test_a_step_that_comes_in_between_later_is_taken_too(registry_url: str) -> None:
    between = Step(9000, "between", forward=('CREATE TABLE "between" ("id" INT)',), backward=('DROP TABLE "between"',))
    await advance(registry_url)
    assert await advance(registry_url, (*STEPS, between, EXTRA)) == [9000]


OPEN = """
import asyncio, sys
from iotcore.registry.store import open_registry

async def main():
    await (await open_registry(sys.argv[1])).close()

asyncio.run(main())
"""


async def test_processes_that_open_an_old_registry_at_once_take_each_step_once(registry_url: str) -> None:
    await made_before_steps(registry_url)
    running = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", OPEN, registry_url, stderr=asyncio.subprocess.PIPE)
        for _ in range(4)
    ]
    for process in running:
        _, errors = await asyncio.wait_for(process.communicate(), 30.0)
        assert process.returncode == 0, errors.decode()
    assert await sql(registry_url, "SELECT number FROM migration ORDER BY 1") == [(step.number,) for step in STEPS]
    assert await sql(registry_url, "SELECT count(*) FROM audit WHERE action = 'registry.migrate'") == [(len(STEPS),)]


LONG = """
import asyncio, sys
from iotcore.registry import migrations
from iotcore.registry.database import bare
from iotcore.registry.migrations.step import Step, postgres, sqlite

COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000000)"
COUNT = f"INSERT INTO half {COUNT} SELECT count(*) FROM n"
STEP = Step(9003, "half", forward=("CREATE TABLE half (id BIGINT)", *sqlite(COUNT), *postgres("SELECT pg_sleep(2)")), backward=())

async def main():
    async with bare(sys.argv[1]) as (db, schema):
        await migrations.apply(db, schema, 1, (*migrations.STEPS, STEP))

asyncio.run(main())
"""


async def is_half_way(url: str) -> bool:
    """Whether somebody is within the step: it holds SQLite's write lock, or sleeps on the server."""
    if not is_sqlite(url):
        return bool(await sql(url, "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()"))
    with closing(sqlite3.connect(url.removeprefix(SQLITE), timeout=0.0)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False


async def test_a_process_killed_within_a_step_leaves_nothing_of_it(registry_url: str) -> None:
    await made_before_steps(registry_url)
    await (await open_registry(registry_url)).close()
    before = await schema_of(registry_url)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", LONG, registry_url)
    async with asyncio.timeout(20.0):
        while not await is_half_way(registry_url):
            assert process.returncode is None
            await asyncio.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    async with await open_registry(registry_url) as registry:
        assert await registry.verify_audit() == []
        await registry.note("tester", "device.look", "d1")  # and it can be written
    assert await schema_of(registry_url) == before


def test_the_commands_say_where_it_is_and_go_back_and_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "iotcore.toml"
    config.write_text(f'data = "{tmp_path}"\n', encoding="utf-8")

    def run(*words: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["registry", *words, "--config", str(config)])
        return ended.value.code, capsys.readouterr().out

    code, _ = run("status")
    assert "There is no registry" in str(code)
    url = f"{SQLITE}{tmp_path / 'registry.db'}"
    asyncio.run(made_before_steps(url))
    code, said = run("migrate", "--dry-run")
    assert (code, said.splitlines()[0]) == (0, "   1  start           would be taken")
    assert run("status")[1].startswith("   1  start           due")
    assert run("migrate")[1].splitlines()[-1].endswith("taken")
    assert run("migrate") == (0, "nothing to do\n")
    code, said = run("status", "-o", "json")
    assert [step["number"] for step in json.loads(said) if step["at_ms"]] == [step.number for step in STEPS]
    with home.claimed(tmp_path):
        code, _ = run("migrate", "--to", "1")
        assert "Another iotcore runs in" in str(code)
        assert run("migrate") == (0, "nothing to do\n")
    code, said = run("migrate", "--to", "1")
    assert len(said.splitlines()) == max(len(STEPS) - 1, 1)
    code, said = run("migrate", "--to", "0")
    assert "no way back over step 1" in str(code)
    asyncio.run(advance(url))
    code, said = run("status")
    assert code == 1
    assert said.splitlines()[-1].startswith("9001  tags            taken by a newer iotcore")
