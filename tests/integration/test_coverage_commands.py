"""`iotcore coverage` and `iotcore group` over a real registry and a real telemetry.db; and the keeper's daily look."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import pwd
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from iotcore import cli
from iotcore.app import coverage_history
from iotcore.clock import ManualClock, SystemClock
from iotcore.registry.accounts import accounts
from iotcore.registry.coverage import DAY_MS, Coverage, Figure
from iotcore.registry.coverage_days import CoverageDays
from iotcore.registry.rights import Grant, Role
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import Settings
from tests.support.covered import CITY, activate, heard, pass_test
from tests.support.shipped import SPECS
from tests.support.telemetry_bench import until

pytestmark = pytest.mark.timeout(60)
Run = Callable[..., str]


@asynccontextmanager
async def registry_of(folder: Path) -> AsyncIterator[Registry]:
    async with await open_registry(f"sqlite://{folder / 'registry.db'}", SystemClock()) as registry:
        yield registry


async def _fill(folder: Path) -> None:
    """The school is covered; at the market one device is silent and one was never tested; the others have none."""
    now_ms = SystemClock().wall_ms()
    async with registry_of(folder) as registry:
        await registry.import_city(CITY, SPECS, "tester")
        await activate(registry, "s1", "s2", "s3", "gw")
        await pass_test(registry, "s1", now_ms - 10 * DAY_MS)
        await pass_test(registry, "s2", now_ms - 400 * DAY_MS)
    seen = {"s1": now_ms, "s2": now_ms - 3_600_000.0, "s3": now_ms, "gw": now_ms}
    await heard(folder / "telemetry.db", seen, {"s1": "2.0.1", "s3": "2.1", "gw": "1.0"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    asyncio.run(_fill(made))
    return made


@pytest.fixture
def iotcore(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    config = tmp_path / "iotcore.toml"
    config.write_text(f'data = "{folder}"\n')

    def run(*arguments: str, code: Any = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main([*arguments, "--config", str(config)])
        assert ended.value.code == code or (isinstance(code, str) and code in str(ended.value.code)), ended.value.code
        return capsys.readouterr().out

    return run


def test_coverage_is_shown_by_area_with_what_is_missing(iotcore: Run) -> None:
    found = json.loads(iotcore("coverage", "-o", "json"))
    assert [(row["area"], row["depth"], row["key_sites"], row["watched"], row["covered"]) for row in found["areas"]] == [
        ("", 0, 4, 2, 1),
        ("th", 1, 3, 2, 1),
        ("tp", 2, 3, 2, 1),
        ("w1", 3, 1, 1, 1),
        ("w2", 3, 2, 1, 0),
        ("-", 1, 1, 0, 0),
    ]
    assert found["areas"][0]["percent"] == 25.0
    assert {reason: count for reason, count in found["missing"].items() if count} == {
        "no_device": 2,
        "silent": 1,
        "never_tested": 1,
        "test_expired": 1,
    }
    assert found["trend"] is None
    table = iotcore("coverage")
    assert "25.0 %  [#####               ]  1 of 4 covered, 2 watched" in table.splitlines()[0]
    assert "missing: no_device at 2 key sites" in table
    assert "Phường Đông Tiến" not in table  # it has no key site


def test_what_is_missing_is_listed_with_reasons_and_dates(iotcore: Run) -> None:
    rows = json.loads(iotcore("coverage", "--missing", "-o", "json"))
    assert [(row["premises"], [lack["reason"] for lack in row["lacks"]]) for row in rows] == [
        ("depot", ["no_device"]),
        ("hospital", ["no_device"]),
        ("market", ["silent", "never_tested", "test_expired"]),
    ]
    assert rows[2]["lacks"][2]["since"][:10] < rows[2]["lacks"][0]["since"][:10]
    assert "market  Chợ Vườn Hoa, 1002 Lê Lợi: silent since " in iotcore("coverage", "--missing")
    assert json.loads(iotcore("coverage", "--missing", "--area", "w1", "-o", "json")) == []
    assert iotcore("coverage", "--missing", "--area", "w1") == "every key site is covered\n"
    iotcore("coverage", "--area", "w9", code="There is no area w9. ")


def test_a_spreadsheet_opens_the_csv_and_runs_nothing_of_it(iotcore: Run) -> None:
    text = iotcore("coverage", "--missing", "-o", "csv")
    assert text.startswith("\ufeffpremises,name,")
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
    assert [(row["premises"], row["reason"], row["devices"]) for row in rows][-1] == ("market", "test_expired", "1")
    assert rows[0]["name"] == "'=Kho xăng"
    areas = list(csv.DictReader(io.StringIO(iotcore("coverage", "-o", "csv").removeprefix("\ufeff"))))
    assert [row["percent"] for row in areas] == ["25.0", "33.3", "33.3", "100.0", "0.0", "0.0"]


def test_before_any_device_was_heard_all_are_silent_and_a_file_that_cannot_be_read_is_one_clear_line(
    iotcore: Run, folder: Path
) -> None:
    telemetry = folder / "telemetry.db"
    with closing(sqlite3.connect(telemetry)) as file, file:
        file.execute("DROP TABLE presence")
    iotcore("coverage", code="Who is there cannot be read from ")
    iotcore("group", "add", "fire", "--class", "fire_detector")
    for path in folder.glob("telemetry.db*"):
        path.unlink()
    found = json.loads(iotcore("coverage", "-o", "json"))
    assert (found["areas"][0]["watched"], found["missing"]["silent"]) == (0, 2)
    assert "4 devices" in iotcore("group", "list")


async def _history(folder: Path, last: date) -> None:
    async with registry_of(folder) as registry:
        days = CoverageDays(registry.database)
        for back in range(0, 101, 10):
            figure = Figure(100, 100, 60 - back // 10)
            await days.keep(last - timedelta(days=back), Coverage(0.0, {}, {"": figure, "w1": Figure(1, 1, 1)}), "keeper")


def test_the_history_is_shown_and_where_its_line_leads(iotcore: Run, folder: Path) -> None:
    today = coverage_history.day_of(SystemClock().wall_ms())
    asyncio.run(_history(folder, today))
    rows = json.loads(iotcore("coverage", "--history", f"--from={today - timedelta(days=20)}", "-o", "json"))
    assert [(row["day"], row["percent"]) for row in rows] == [
        ((today - timedelta(days=back)).isoformat(), 60.0 - back / 10) for back in (20, 10, 0)
    ]
    assert iotcore("coverage", "--history", "--area", "w1", "-o", "csv").count(",w1,1,1,1,100.0,") == 10  # of 90 days
    found = json.loads(iotcore("coverage", "-o", "json"))["trend"]
    assert found["per_year"] == pytest.approx(36.5, abs=0.1)
    assert (date.fromisoformat(found["reaches"]) - today).days == pytest.approx(400, abs=1)
    assert "trend: +36.5 points a year" in iotcore("coverage")
    assert "nothing was kept" in iotcore("coverage", "--history", "--from=2001-01-01", "--to=2001-02-01")
    iotcore("coverage", "--history", "--from=now", "--to=-3d", code="is after --to")


def test_a_group_is_made_by_conditions_listed_shown_and_removed(iotcore: Run, tmp_path: Path) -> None:
    said = iotcore(
        "group", "add", "update", "--class", "fire_detector", "--area", "tp", "--firmware-below", "2.1", "--title", "Cũ"
    )
    assert said == "group update has version 1; 1 devices are in it\n"
    assert iotcore("group", "add", "all-fire", "--class", "fire_detector", "--class", "fire_panel").endswith(
        "4 devices are in it\n"
    )
    assert [(row["group"], row["devices"]) for row in json.loads(iotcore("group", "list", "-o", "json"))] == [
        ("all-fire", 4),
        ("update", 1),
    ]
    shown = json.loads(iotcore("group", "show", "update"))
    assert shown["query"] == {
        "kind": "all",
        "of": [
            {"kind": "class", "is": ["fire_detector"]},
            {"kind": "area", "is": ["tp"]},
            {"kind": "firmware", "below": "2.1"},
        ],
    }
    assert (shown["version"], shown["problems"]) == (1, [])
    assert "device=s1  title=Khói 1" in iotcore("group", "members", "update")
    assert [row["firmware"] for row in json.loads(iotcore("group", "members", "update", "-o", "json"))] == ["2.0.1"]
    assert "s1,Khói 1,iotcore-smoke-heat,active,school,s1,2.0.1" in iotcore("group", "members", "update", "-o", "csv")

    file = tmp_path / "update.json"
    file.write_text(json.dumps({"title": "Cũ", "query": {"kind": "firmware", "below": "3"}}))
    iotcore("group", "add", "update", "--query", str(file), "--version", "0", code="conflict")
    assert "has version 2; 3 devices" in iotcore("group", "add", "update", "--query", str(file), "--version", "1")
    assert "is as it was, version 2" in iotcore("group", "add", "update", "--query", str(file))
    iotcore("group", "remove", "update")
    iotcore("group", "remove", "update", code="There is no group update. ")
    iotcore("group", "members", "all-fir", code="Did you mean all-fire?")


def test_a_wrong_group_is_refused_with_everything_that_is_wrong(iotcore: Run, tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as refused:
        iotcore("group", "add", "G1", "--model", "acme", "--area", "w9")
    for text in ("id: must be", "query.of[0]: no model 'acme'", "query.of[1]: no area 'w9'"):
        assert text in str(refused.value)
    iotcore("group", "add", "g1", code="A group needs a query")
    file = tmp_path / "deep.json"
    file.write_text('{"title": "G", "query": ' + '{"kind": "not", "of": ' * 50_000 + "}" * 50_001)
    iotcore("group", "add", "g1", "--query", str(file), code=f"{file}: ")


def test_devices_and_tokens_are_had_by_group(iotcore: Run) -> None:
    iotcore("group", "add", "school", "--premises", "school")
    assert [line.split("  ")[0] for line in iotcore("devices", "--group", "school").splitlines()] == ["device=s1", "device=c1"]
    made = [line.split() for line in iotcore("token", "create", "--group", "school").splitlines()]
    assert [device for device, _ in made] == ["c1", "s1"]
    assert all(len(token) >= 22 for _, token in made)
    iotcore("token", "create", code="name devices, a group with --group")
    iotcore("token", "create", "--group", "nobody", code="There is no group nobody")


def test_a_group_is_put_out_only_when_that_is_said_and_what_it_means_is_said_before(iotcore: Run) -> None:
    iotcore("group", "add", "fire", "--class", "fire_detector")
    said = iotcore("group", "suspend", "fire")
    assert said.splitlines() == [
        "3 devices would be suspended: s2, s3, s1",
        "1 would stay as they are: c1 (registered)",
        "2 key sites would no longer be watched: market, school",
        "nothing was done; --apply does it",
    ]
    assert "state=suspended" not in iotcore("devices")
    assert iotcore("group", "suspend", "fire", "--apply") == "3 devices are suspended: s2, s3, s1\n"
    assert iotcore("devices").count("state=suspended") == 3
    assert iotcore("group", "resume", "fire", "--apply").startswith("3 devices are active")
    assert "device.state" in iotcore("audit", "show", "--subject", "s1", "--last", "1")


async def test_the_keeper_keeps_each_day_once_by_the_citys_calendar(tmp_path: Path) -> None:
    clock = ManualClock(1_795_712_340_000.0)  # 2026-11-26 23:59 in Vietnam
    settings = Settings(data=str(tmp_path))
    async with await open_registry(f"sqlite://{tmp_path / 'registry.db'}", clock) as registry:
        await registry.import_city(CITY, SPECS, "tester")
        await activate(registry, "s1")
        await pass_test(registry, "s1", clock.wall_ms())
        await heard(tmp_path / "telemetry.db", {"s1": clock.wall_ms()})
        directory = await registry.directory(SPECS)
        days = CoverageDays(registry.database)
        task = asyncio.create_task(coverage_history.run(settings, registry, lambda: directory, clock, settle_s=0.0, look_s=0.01))
        try:

            async def kept(*wanted: tuple[str, int]) -> bool:
                found = await days.between(date(2026, 1, 1), date(2027, 1, 1))
                return [(one.day.isoformat(), one.figure.covered) for one in found] == [*wanted]

            await until(lambda: kept(("2026-11-26", 1)))
            before = len(await registry.audit_entries())
            await asyncio.sleep(0.1)
            assert len(await registry.audit_entries()) == before
            clock.advance(120.0)
            await until(lambda: kept(("2026-11-26", 1), ("2026-11-27", 1)))
        finally:
            task.cancel()
            await asyncio.wait({task})


async def _two_admins(folder: Path) -> None:
    async with registry_of(folder) as registry:
        people = accounts(registry.database, 3_600, 3_600).people
        for name in ("lan", "minh"):
            await people.add(name, [Grant(Role.ADMIN)], "tester")


async def _approve(folder: Path, number: int) -> None:
    async with registry_of(folder) as registry:
        await accounts(registry.database, 3_600, 3_600).approvals.decide(number, "minh", approve=True)


def test_a_whole_group_is_moved_by_two_admins_and_only_the_devices_that_both_have_seen(
    iotcore: Run, folder: Path, tmp_path: Path
) -> None:
    asyncio.run(_two_admins(folder))
    login = pwd.getpwuid(os.getuid()).pw_name
    (tmp_path / "iotcore.toml").write_text(f'data = "{folder}"\n[people.operators]\n{login} = "lan"\n')
    iotcore("group", "add", "fire", "--class", "fire_detector")
    iotcore("group", "suspend", "fire", "--apply", code="iotcore approval approve 1")
    assert "state=suspended" not in iotcore("devices")
    asyncio.run(_approve(folder, 1))
    iotcore("device", "suspend", "s2")
    iotcore("group", "suspend", "fire", "--apply", code="second_person")  # the devices are others now
    iotcore("device", "resume", "s2")
    assert iotcore("group", "suspend", "fire", "--apply").startswith("3 devices are suspended")
    assert "  lan  group.save  fire" in iotcore("audit", "show", "--action", "group.")
    assert "  lan  device.state  s1" in iotcore("audit", "show", "--subject", "s1", "--last", "1")
    iotcore("group", "resume", "fire", "--apply", code="second_person")
    assert iotcore("group", "resume", "fire", "--apply", "--alone", "false alarm").startswith("3 devices are active")
    assert "false alarm" in iotcore("audit", "show", "--action", "approval.ALONE")
