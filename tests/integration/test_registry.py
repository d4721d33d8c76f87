"""The registry on SQLite and on a real PostgreSQL: the same cases on both."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest

from iotcore.clock import ManualClock
from iotcore.errors import ConfigError, Refused, StartError, StoreError
from iotcore.process.follow import Follower
from iotcore.registry.city import DeviceEntry, PremisesEntry, ZoneEntry
from iotcore.registry.records import Certificate, Imported
from iotcore.registry.store import Registry, open_registry
from tests.support.postgres import Postgres
from tests.support.registered import SPECS, city

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite://{tmp_path / 'registry.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.url(server.fresh())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def registry(url: str, clock: ManualClock) -> AsyncIterator[Registry]:
    opened = await open_registry(url, clock)
    yield opened
    await opened.close()


async def tamper(url: str, statement: str) -> None:
    """Do to the database what somebody with its password could do."""
    if url.startswith("sqlite://"):
        with sqlite3.connect(url.removeprefix("sqlite://")) as connection:
            connection.execute(statement)
        connection.close()
        return
    connection = await asyncpg.connect(url)
    await connection.execute("SET search_path TO registry")
    await connection.execute(statement)
    await connection.close()


async def test_a_city_imports_whole_and_a_second_time_changes_nothing(registry: Registry) -> None:
    assert await registry.import_city(city(), SPECS, "tester") == Imported(added=11, changed=0, same=0)
    cursor = await registry.last_change()
    assert await registry.import_city(city(), SPECS, "tester") == Imported(added=0, changed=0, same=11)
    assert await registry.changes_after(cursor) == []
    directory = await registry.directory(SPECS)
    assert directory.devices["d1"].premises == "p2"
    assert directory.devices["d1"].publisher == "d1"
    assert directory.devices["d1"].state == "registered"
    assert directory.devices["air-2"].publisher == "gw-1"
    assert directory.devices["air-2"].connection == "tcp://10.0.0.2:502?device_id=1"
    assert directory.devices["air-2"].domain == "air"
    assert directory.premises["p1"].account == "A001"
    assert directory.zones["p2-z1"].name == "Bếp"


async def test_a_changed_document_changes_only_what_differs_and_keeps_the_state(registry: Registry) -> None:
    await registry.import_city(city(), SPECS, "tester")
    await registry.record_certificate(Certificate("01", "d1", "fire", 9, "ff"), "ca")
    document = city()
    document["devices"][-4]["title"] = "Đầu báo khói bếp"
    cursor = await registry.last_change()
    assert await registry.import_city(document, SPECS, "tester") == Imported(added=0, changed=1, same=10)
    assert [(change.kind, change.key) for change in await registry.changes_after(cursor)] == [("device", "d1")]
    binding = (await registry.directory(SPECS)).devices["d1"]
    assert (binding.title, binding.state) == ("Đầu báo khói bếp", "provisioned")


async def test_a_wrong_document_is_refused_whole_with_every_problem(registry: Registry) -> None:
    document = city()
    document["premises"][1]["account"] = "A001"
    document["zones"][0]["premises"] = "nowhere"
    document["devices"] += [
        {"id": "d1", "title": "twice", "model": "smoke-heat", "premises": "p1"},
        {"id": "x1", "title": "x", "model": "unheard-of"},
        {"id": "x2", "title": "x", "model": "smoke-heat"},
        {"id": "x3", "title": "x", "model": "air", "parent": "d2", "connection": "somewhere"},
        {"id": "x4", "title": "x", "model": "gateway", "parent": "gw-1"},
        {"id": "x5", "title": "x", "model": "signal", "parent": "ghost", "zone": "p1-z9"},
    ]
    with pytest.raises(ConfigError) as caught:
        await registry.import_city(document, SPECS, "tester")
    paths = {problem.path for problem in caught.value.problems}
    assert paths >= {
        "premises[0].account",
        "premises[1].account",
        "zones[0].premises",
        "devices[7].id",
        "devices[8].model",
        "devices[9].premises",
        "devices[10].parent",
        "devices[10].connection",
        "devices[11].parent",
        "devices[12].parent",
        "devices[12].zone",
    }
    assert (await registry.directory(SPECS)).devices == {}
    assert await registry.audit_entries() == []


async def test_a_document_of_wrong_shape_names_every_path(registry: Registry) -> None:
    document = {
        "premises": [{"id": "a.b", "name": "", "colour": 1}],
        "devices": [{"id": "d 1", "title": 5, "model": "m"}],
        "x": [],
    }
    with pytest.raises(ConfigError) as caught:
        await registry.import_city(document, SPECS, "tester")
    paths = {problem.path for problem in caught.value.problems}
    assert paths >= {
        "x",
        "premises[0].id",
        "premises[0].name",
        "premises[0].colour",
        "premises[0].address",
        "devices[0].id",
        "devices[0].title",
    }


async def test_three_hundred_devices_import_in_two_seconds(registry: Registry) -> None:
    start = time.perf_counter()
    outcome = await registry.import_city(city(premises=30, detectors=250, air=60), SPECS, "tester")
    assert time.perf_counter() - start < 2.0
    assert outcome.added == 371


async def test_one_thing_at_a_time_is_checked_like_a_document(registry: Registry) -> None:
    await registry.add_premises(PremisesEntry("p1", "Chợ", "1 Lê Lợi", 19.8, 105.7, "1001"), "tester")
    await registry.add_zone(ZoneEntry("z1", "p1", 1, "1", "Bếp"), "tester")
    await registry.add_device(DeviceEntry("d1", "Khói", "smoke-heat", premises="p1", zone="z1"), SPECS, "tester")
    assert (await registry.directory(SPECS)).devices["d1"].zone == "z1"
    with pytest.raises(ConfigError, match="already registered"):
        await registry.add_device(DeviceEntry("d1", "Khói", "smoke-heat", premises="p1", zone="z1"), SPECS, "tester")
    with pytest.raises(ConfigError, match=r"devices\[0\].id"):
        await registry.add_device(DeviceEntry("svc.fire.1", "Khói", "smoke-heat", premises="p1"), SPECS, "tester")
    with pytest.raises(ConfigError, match="number"):
        await registry.add_zone(ZoneEntry("z2", "p1", 1, "1", "Kho"), "tester")
    assert [entry.deed.action for entry in await registry.audit_entries()] == ["premises.add", "zone.add", "device.add"]


async def test_a_device_without_a_spec_is_left_out_but_stops_nobody(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    await registry.import_city(city(), SPECS, "tester")
    directory = await registry.directory({model: one for model, one in SPECS.items() if model != "air"})
    assert set(directory.devices) == {"gw-1", "d1", "d2", "d3", "d4"}
    assert "no spec for air" in caplog.text


async def test_who_follows_reads_only_what_changed_and_has_what_a_fresh_reader_has(registry: Registry) -> None:
    follower = Follower(registry, SPECS)
    document = city()
    first, document["devices"] = document["devices"][:-4], document["devices"]
    await registry.import_city({**document, "devices": first}, SPECS, "tester")
    assert await follower.refresh()
    assert not await follower.refresh()
    before = follower.directory
    await registry.intent("acknowledge", "i1", "tester")
    assert await follower.refresh()
    assert follower.directory is before  # nothing that is in it
    await registry.import_city(document, SPECS, "tester")
    await registry.record_certificate(Certificate("01", "d1", "fire", 9, "ff"), "ca")
    await registry.set_state("d1", "active", "tester")
    document["premises"][0]["address"] = "1 Lê Lợi"
    document["zones"][0]["floor"] = "9"
    await registry.import_city(document, SPECS, "tester")
    assert await follower.refresh()
    assert follower.directory == await registry.directory(SPECS)
    assert follower.directory.devices["d1"].state == "active"
    assert follower.directory.premises[document["premises"][0]["id"]].address == "1 Lê Lợi"
    await registry.set_state("d1", "suspended", "tester")
    await follower.refresh()
    assert not follower.directory.devices["d1"].accepted


async def test_a_device_moves_only_along_its_life(registry: Registry) -> None:
    await registry.import_city(city(), SPECS, "tester")
    with pytest.raises(Refused, match="transition"):
        await registry.set_state("d1", "active", "tester")
    await registry.record_certificate(Certificate("01", "d1", "fire", 9, "ff"), "ca")
    assert await registry.set_state("d1", "active", "fire")
    assert not await registry.set_state("d1", "active", "fire")
    assert await registry.set_state("d1", "suspended", "tester")
    assert not (await registry.directory(SPECS)).devices["d1"].accepted
    assert await registry.set_state("d1", "active", "tester")
    await registry.set_state("d1", "suspended", "tester")
    await registry.set_state("d1", "retired", "tester")
    for state in ("registered", "provisioned", "active", "suspended"):
        with pytest.raises(Refused, match="transition"):
            await registry.set_state("d1", state, "tester")
    with pytest.raises(Refused, match="unknown_device"):
        await registry.set_state("nobody", "active", "tester")


async def test_a_reading_activates_a_provisioned_device_and_never_lifts_a_suspension(registry: Registry) -> None:
    await registry.import_city(city(), SPECS, "tester")
    assert not await registry.activate("d1", "ingest")
    await registry.record_certificate(Certificate("01", "d1", "fire", 9, "ff"), "ca")
    assert await registry.activate("d1", "ingest")
    assert not await registry.activate("d1", "ingest")
    await registry.set_state("d1", "suspended", "tester")
    assert not await registry.activate("d1", "ingest")
    assert (await registry.directory(SPECS)).devices["d1"].state == "suspended"
    assert not await registry.activate("nobody", "ingest")


async def test_a_refusal_is_audited_whatever_the_stranger_called_itself(registry: Registry) -> None:
    await registry.note("unproven", "enrolment_refused", "x\0" * 100, "token: \0 unknown")
    (entry,) = await registry.audit_entries()
    assert (entry.deed.action, len(entry.deed.subject)) == ("enrolment_refused", 64)
    assert await registry.verify_audit() == []


async def test_no_token_for_an_unknown_or_retired_device(registry: Registry) -> None:
    with pytest.raises(Refused, match="unknown_device"):
        await registry.create_token("nobody", 60)
    await registry.import_city(city(), SPECS, "tester")
    await registry.set_state("air-1", "active", "tester")
    await registry.set_state("air-1", "suspended", "tester")
    with pytest.raises(Refused, match="not_enrollable"):
        await registry.create_token("air-1", 60)


async def test_a_certificate_provisions_its_device_and_can_be_revoked_once(registry: Registry) -> None:
    await registry.import_city(city(), SPECS, "tester")
    await registry.record_certificate(Certificate("0a", "d1", "fire", 1_800_000_000_000, "ff"), "ca")
    await registry.record_certificate(Certificate("0b", "svc.fire.1.in", "service", 1_800_000_000_000, "ee"), "ca")
    assert (await registry.directory(SPECS)).devices["d1"].state == "provisioned"
    with pytest.raises(StoreError):
        await registry.record_certificate(Certificate("0a", "d2", "fire", 1, "ff"), "ca")
    assert (await registry.directory(SPECS)).devices["d2"].state == "registered"
    assert await registry.revoke_certificate("0a", "tester")
    assert not await registry.revoke_certificate("0a", "tester")
    (kept,) = await registry.certificates("d1")
    assert kept.revoked_ms == kept.issued_ms
    assert len(await registry.certificates()) == 2


async def test_an_intent_asked_twice_is_one_intent_and_pollers_see_it(registry: Registry, url: str) -> None:
    first = await registry.intent("acknowledge", "incident-1", "duty officer")
    assert await registry.intent("acknowledge", "incident-1", "somebody else") == first
    second = await registry.intent("reset", "incident-1", "duty officer")
    other = await open_registry(url)
    intents = await other.intents_after(0)
    assert [(one.kind, one.key, one.by) for one in intents] == [
        ("acknowledge", "incident-1", "duty officer"),
        ("reset", "incident-1", "duty officer"),
    ]
    assert await other.intents_after(second) == []
    assert [change.kind for change in await other.changes_after(0)] == ["intent", "intent"]
    await other.close()


async def test_parallel_writers_never_find_the_database_locked_and_skip_no_change(registry: Registry, url: str) -> None:
    await registry.import_city(city(detectors=20), SPECS, "tester")
    async with AsyncExitStack() as stack:
        writers = [await open_registry(url) for _ in range(4)]
        for writer in writers:
            stack.push_async_callback(writer.close)
        start = seen = await registry.last_change()

        async def write(writer: Registry, n: int) -> None:
            for i in range(10):
                await writer.intent("acknowledge", f"incident-{n}-{i}", "tester")

        async def follow() -> int:
            cursor = seen
            while cursor < start + 40:
                changes = await registry.changes_after(cursor)
                assert [change.id for change in changes] == list(range(cursor + 1, cursor + 1 + len(changes)))
                cursor += len(changes)
                await asyncio.sleep(0.005)
            return cursor

        follower = asyncio.create_task(follow())
        await asyncio.gather(*(write(writer, n) for n, writer in enumerate(writers)))
        assert await asyncio.wait_for(follower, 10.0) == start + 40
    assert await registry.verify_audit() == []


OPEN_AND_WRITE = """
import asyncio, sys
from iotcore.registry.store import open_registry

async def main():
    registry = await open_registry(sys.argv[1])
    await registry.intent("reset", sys.argv[2], "x")
    await registry.close()

asyncio.run(main())
"""


async def test_several_processes_can_open_a_new_registry_at_once(url: str) -> None:
    running = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", OPEN_AND_WRITE, url, f"i{n}", stderr=asyncio.subprocess.PIPE)
        for n in range(4)
    ]
    for process in running:
        _, errors = await asyncio.wait_for(process.communicate(), 30.0)
        assert process.returncode == 0, errors.decode()
    registry = await open_registry(url)
    assert sorted(one.key for one in await registry.intents_after(0)) == ["i0", "i1", "i2", "i3"]
    assert await registry.verify_audit() == []
    await registry.close()


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE audit SET by = 'somebody' WHERE seq = 3", "edited"),
        ("UPDATE audit SET detail = '{}' WHERE seq = 11", "edited"),
        ("DELETE FROM audit WHERE seq = 5", "missing"),
        ("DELETE FROM audit WHERE seq = 11", "truncated"),
        ("DELETE FROM audit", "truncated"),
        ("UPDATE audit_head SET hash = 'x'", "edited"),
    ],
)
async def test_the_audit_finds_what_was_edited_or_removed(registry: Registry, url: str, statement: str, reason: str) -> None:
    await registry.import_city(city(), SPECS, "tester")
    assert len(await registry.audit_entries()) == 11
    assert await registry.verify_audit() == []
    await tamper(url, statement.replace(" by ", ' "by" '))
    assert reason in {found.reason for found in await registry.verify_audit()}


async def test_a_mutation_that_fails_leaves_neither_row_nor_audit_nor_change(registry: Registry) -> None:
    await registry.import_city(city(), SPECS, "tester")
    before = (await registry.last_change(), len(await registry.audit_entries()))
    with pytest.raises(Refused):
        await registry.set_state("d1", "retired", "tester")
    with pytest.raises(StoreError):
        await registry.record_certificate(Certificate("0" * 65, "d1", "fire", 9, "ff"), "ca")
    assert (await registry.last_change(), len(await registry.audit_entries())) == before


async def test_a_registry_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="nowhere"):
        await open_registry(f"sqlite://{tmp_path / 'nowhere' / 'registry.db'}")
    with pytest.raises(StartError, match="cannot be opened") as caught:
        await open_registry("postgres://me:secret@127.0.0.1:1/none")
    assert "secret" not in str(caught.value)
    with pytest.raises(StartError, match="Unknown DB scheme"):
        await open_registry("oracles://x/y")
