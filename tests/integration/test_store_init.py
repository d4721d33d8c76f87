"""`iotcore store init`: on InfluxDB 1.6.7 itself, on 2.7 and 3 as documented, and with the store that needs none."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from iotcore.clock import ManualClock, SystemClock
from iotcore.commands.store_init import examine, steps
from iotcore.settings import Settings, Store
from iotcore.telemetry.embedded import TelemetryFile
from iotcore.telemetry.influx import Influx1
from iotcore.telemetry.influx_setup import Step, prepare
from tests.support import commands
from tests.support.influx import Influxd
from tests.support.influx_fake import OPERATOR, ORG, READER, WRITER, InfluxFake

ALL = {"iotcore": 400.0, "iotcore_1m": 1830.0, "iotcore_1h": 0.0}
PRIVATE = {"iotcore_confidential": 400.0, "iotcore_confidential_1m": 1830.0, "iotcore_confidential_1h": 0.0}


@dataclass(frozen=True)
class Site:
    """The settings of a store, and the days that its server keeps each database."""

    store: Store
    kept: Callable[[], dict[str, float]]
    fake: InfluxFake | None


@pytest.fixture(scope="module")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    with Influxd(tmp_path_factory.mktemp("influx")) as server:
        yield server


@pytest.fixture(params=["1.6.7", "2.7.12", "3.10.1"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        if request.param == "1.6.7":
            server: Influxd = request.getfixturevalue("influxd")
            for name in server.databases():
                server.query(f'DROP DATABASE "{name}"')
            yield Site(Store(kind="influx1", url=server.url), lambda: _kept(server), None)
        else:
            fake = await stack.enter_async_context(InfluxFake(request.param))
            yield Site(Store(kind="influx2", url=fake.url, org=ORG, token=OPERATOR), lambda: dict(fake.days), fake)


def _kept(server: Influxd) -> dict[str, float]:
    result = {}
    for name in server.databases():
        (series,) = server.query(f'SHOW RETENTION POLICIES ON "{name}"')
        rows = (dict(zip(series["columns"], values, strict=True)) for values in series["values"])
        hours, hour, _ = next(row["duration"] for row in rows if row["default"]).partition("h")
        result[name] = int(hours) / 24.0 if hour else 0.0
    return result


def states(found: list[Step], what: str = "") -> dict[str, str]:
    return {step.name: step.state for step in found if step.what in ({what} if what else {"database", "bucket"})}


async def test_what_is_missing_is_created_with_its_retention_and_a_second_time_all_is_there(site: Site) -> None:
    assert states(await prepare(site.store, dry_run=True)) == dict.fromkeys(ALL, "missing")
    assert site.kept() == {}
    assert states(await prepare(site.store)) == dict.fromkeys(ALL, "created")
    assert site.kept() == ALL
    again = await prepare(site.store)
    assert states(again) == dict.fromkeys(ALL, "there")
    assert {step.state for step in again} == {"there"}


async def test_what_differs_is_told_and_changed_only_when_asked(site: Site) -> None:
    await prepare(site.store)
    shorter = replace(site.store, retention_days=30, retention_1h_days=3_650)
    for found in (await prepare(shorter), await prepare(shorter, dry_run=True, change=True)):
        assert states(found) == {"iotcore": "differs", "iotcore_1m": "there", "iotcore_1h": "differs"}
        assert found[0].said.startswith("kept 400 days, the settings say 30 days")
    assert site.kept() == ALL
    assert states(await prepare(shorter, change=True)) == {"iotcore": "changed", "iotcore_1m": "there", "iotcore_1h": "changed"}
    assert site.kept() == {"iotcore": 30.0, "iotcore_1m": 1830.0, "iotcore_1h": 3650.0}
    assert states(await prepare(site.store, change=True))["iotcore_1h"] == "changed"
    assert site.kept() == ALL, "back to for ever"


async def test_confidential_classes_get_databases_of_their_own_as_far_as_the_server_allows(site: Site) -> None:
    found = await prepare(replace(site.store, confidential=["traffic"]))
    if site.fake is not None and site.fake.version.startswith("3."):
        assert [step.name for step in found if step.state == "failed"] == ["iotcore_confidential_1h"]
        assert "exceed limit of 5 databases" in found[-1].said
    else:
        assert site.kept() == ALL | PRIVATE


async def test_influxdb_2_gets_the_mapping_that_influxql_needs_and_a_foreign_one_is_told() -> None:
    async with InfluxFake("2.7.12") as fake:
        own = await prepare(Store(kind="influx2", url=fake.url, org=ORG, token=OPERATOR))
        assert {step.said for step in own if step.what == "mapping"} == {"the server's own"}
        assert fake.mappings == []
    async with InfluxFake("2.1.1") as fake:
        store = Store(kind="influx2", url=fake.url, org=ORG, token=OPERATOR)
        assert states(await prepare(store, dry_run=True), "mapping") == {}, "no bucket yet to map to"
        assert states(await prepare(store), "mapping") == dict.fromkeys(ALL, "created")
        assert {(m["database"], m["retention_policy"], m["default"]) for m in fake.mappings} == {
            (n, "autogen", True) for n in ALL
        }
        assert states(await prepare(store), "mapping") == dict.fromkeys(ALL, "there")
        fake.mappings[0]["bucketID"] = "somebody-else"
        assert states(await prepare(store), "mapping")["iotcore"] == "differs"


@pytest.mark.parametrize("version", ["2.7.12", "3.10.1"])
async def test_a_token_that_may_not_create_is_told_which_right_it_lacks(version: str) -> None:
    async with InfluxFake(version) as fake:
        found = await prepare(Store(kind="influx2", url=fake.url, org=ORG, token=WRITER))
        assert states(found) == dict.fromkeys(ALL, "failed")
        assert all("not_authorised" in step.said and "the token" in step.said for step in found)
        (wrong,) = await prepare(Store(kind="influx2", url=fake.url, org=ORG, token="nobody"))
        assert wrong.state == "failed"


async def test_a_wrong_organisation_and_a_wrong_version_are_told() -> None:
    async with InfluxFake("2.7.12") as fake:
        (found,) = await prepare(Store(kind="influx2", url=fake.url, org="nowhere", token=OPERATOR))
        assert (found.what, found.state) == ("organisation", "failed")
    async with InfluxFake("1.8.10") as fake:
        (found,) = await prepare(Store(kind="influx2", url=fake.url, org=ORG, token=OPERATOR))
        assert "is version 1" in found.said


async def test_a_page_of_buckets_is_not_all_buckets() -> None:
    async with InfluxFake("2.7.12").make(*(f"other-{n}" for n in range(120)), "iotcore") as fake:
        found = await prepare(Store(kind="influx2", url=fake.url, org=ORG, token=OPERATOR, retention_days=0))
        assert states(found)["iotcore"] == "there"


async def test_the_embedded_store_only_says_what_it_has(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path))
    assert [step.state for step in await steps(settings, dry_run=False, change=False)] == ["missing"]
    async with TelemetryFile(tmp_path / "telemetry.db"):
        (found,) = await steps(settings, dry_run=False, change=False)
    assert (found.state, found.said.partition(",")[0]) == ("there", "0 series")


async def test_the_command_prints_each_step_and_fails_when_one_failed(tmp_path: Path) -> None:
    async def run(token: str, *options: str) -> tuple[int, str]:
        (tmp_path / "iotcore.toml").write_text(
            f'data = "{tmp_path}"\n[store]\nkind = "influx2"\nurl = "{fake.url}"\norg = "{ORG}"\n', encoding="utf-8"
        )
        words = ("store", "init", "--config", str(tmp_path / "iotcore.toml"), *options)
        done = await asyncio.to_thread(commands.run, *words, env={**os.environ, "IOTCORE_STORE__TOKEN": token})
        return done.returncode, done.stdout + done.stderr

    async with InfluxFake("2.7.12") as fake:
        code, said = await run(WRITER)
        assert code == 1
        assert said.startswith("failed   bucket   iotcore     not_authorised: write:orgs/")
        assert WRITER not in said
        code, said = await run(OPERATOR, "-o", "json")
        assert code == 0, said
        assert fake.days == ALL
    made = {step["name"]: step["state"] for step in json.loads(said) if step["what"] == "bucket"}
    assert made == dict.fromkeys(ALL, "created")


async def test_the_doctor_says_version_rights_databases_and_clock(site: Site) -> None:
    clock = SystemClock()
    said, remedy = await examine(site.store, clock)
    assert "store init" in remedy, said
    await prepare(site.store)
    said, remedy = await examine(site.store, clock)
    assert remedy == ""
    assert "databases and retention as the settings say" in said
    assert f"InfluxDB {site.fake.version if site.fake else '1.6'}" in said
    said, remedy = await examine(site.store, ManualClock())
    assert "timedatectl" in remedy, said
    assert "off ours" in said


async def test_the_doctor_finds_missing_rights_and_stores_nothing() -> None:
    async with InfluxFake("2.7.12").make(*ALL) as fake:
        said, remedy = await examine(Store(kind="influx2", url=fake.url, org=ORG, token=READER), SystemClock())
        assert "not_authorised" in said
        assert "right to write" in remedy
        assert all(not bucket.points for bucket in fake.buckets.values())
    said, remedy = await examine(Store(kind="influx2", url="http://127.0.0.1:9", token="t"), SystemClock())
    assert said.startswith("unreachable")
    assert remedy


async def test_the_doctor_asks_influxdb_1_without_creating_or_storing(influxd: Influxd) -> None:
    for name in influxd.databases():
        influxd.query(f'DROP DATABASE "{name}"')
    store = Store(kind="influx1", url=influxd.url)
    said, _ = await examine(store, SystemClock())
    assert "iotcore: no_database" in said
    assert influxd.databases() == set()
    async with Influx1(store, SystemClock()) as one:
        assert await one.ensure() is None
    said, _ = await examine(store, SystemClock())
    assert influxd.query("SHOW MEASUREMENTS") == []
