"""Importing and exporting many entries: judged whole, stored in chunks, refused rows kept apart, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import csv
import io
import itertools
import json
import os
import pwd
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iotcore.clock import SystemClock
from iotcore.commands import importing
from iotcore.commands.progress import Progress
from iotcore.errors import ConfigError, StartError
from iotcore.registry import draft as drafts
from iotcore.registry import intake
from iotcore.registry.judging import Judged, judge
from iotcore.registry.kinds import KINDS
from iotcore.registry.places import Places
from iotcore.registry.records import Certificate, Imported
from iotcore.registry.store import Registry, open_registry
from iotcore.registry.units import Another
from iotcore.settings import load
from tests.integration.test_registry_places import PLACES
from tests.support import commands
from tests.support.postgres import Postgres
from tests.support.shipped import SPECS

pytestmark = pytest.mark.timeout(60)
SIGNALS = 8_000  # devices of a file whose import can be interrupted
HEADER = ["id", "title", "model", "serial", "labels"]


@pytest.fixture
def folder(tmp_path: Path, registry_url: str) -> Path:
    """A folder with settings for an empty registry."""
    return settled(tmp_path, registry_url)


@pytest.fixture
def empty(request: pytest.FixtureRequest, tmp_path: Path, registry_url: str) -> Callable[[], Path]:
    """Further folders, each with an empty registry of the same kind."""
    folders = itertools.count()

    def another() -> Path:
        path = tmp_path / f"other-{next(folders)}"
        if registry_url.startswith("sqlite"):
            return settled(path, f"sqlite://{path / 'registry.db'}")
        server: Postgres = request.getfixturevalue("postgres_server")
        return settled(path, server.url(server.fresh()))

    return another


def settled(folder: Path, url: str) -> Path:
    (folder / "data").mkdir(parents=True)
    said = f"data = {json.dumps(str(folder / 'data'))}\n[registry]\nurl = {json.dumps(url)}\n"
    (folder / "iotcore.toml").write_text(said)
    return folder


async def imported(path: Path, folder: Path | None = None, **how: Any) -> importing.Report:
    """Import a file into the registry of a folder: that of the file, or another."""
    settings = load((folder or path.parent) / "iotcore.toml", {})
    progress = Progress(io.StringIO(), SystemClock())
    return await importing.run(settings, importing.Wanted(path, **how), SystemClock(), progress)


async def exported(path: Path) -> None:
    """Export from the registry of the file's folder; a CSV file is called after its kind."""
    await importing.export(load(path.parent / "iotcore.toml", {}), path, [path.stem] if path.suffix == ".csv" else [])


def command(folder: Path, *words: str | Path) -> list[str]:
    return [sys.executable, "-m", "iotcore", *map(str, words), "--config", str(folder / "iotcore.toml")]


async def run(folder: Path, *words: str | Path, well: bool = True) -> tuple[str, str]:
    """What a command says on both streams."""
    done = await asyncio.to_thread(commands.run, *words, "--config", folder / "iotcore.toml")
    assert (done.returncode == 0) == well, done.stderr
    return done.stdout, done.stderr


def written(path: Path, rows: list[list[str]], header: list[str] = HEADER) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def signals(count: int) -> list[list[str]]:
    return [[f"sig-{n:06d}", f"Nút giao {n}", "iotcore-mqtt-signal", f"S{n:06d}", f"line={n % 9}"] for n in range(count)]


def document(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content))
    return path


async def judged(registry: Registry, content: dict[str, Any]) -> Judged:
    async with registry.database.reading() as db:
        return await judge(db, drafts.from_document(content, "city"), SPECS)


async def test_what_is_exported_makes_the_same_registry_and_the_same_export(folder: Path, empty: Callable[[], Path]) -> None:
    await imported(document(folder / "city.json", PLACES))
    tables = [f"{kind}.csv" for kind in KINDS]
    for name in ("all.json", "all.xlsx", *tables):
        await exported(folder / name)
    for name in ("all.json", "all.xlsx", *tables):
        report = await imported(folder / name)
        assert (report.outcome.added, report.outcome.changed, report.faults) == (0, 0, []), name
    for files in (["all.json"], ["all.xlsx"], tables):
        other = empty()
        for name in files:
            await imported(folder / name, other)
            await exported(other / name)
            assert (other / name).read_bytes() == (folder / name).read_bytes()


async def test_a_dry_run_says_everything_and_stores_nothing(folder: Path, registry_url: str) -> None:
    await imported(document(folder / "city.json", PLACES))
    path = written(
        folder / "devices.csv",
        [
            ["sd-1", "Khói 1", "iotcore-smoke-heat", "truong-1", "truong-1-z1", "SN-0001"],
            ["sd-2", "Khói 2", "iotcore-smoke-haet", "truong-1", "truong-1-z9", ""],
            ["sd-3", "", "iotcore-smoke-heat", "", "", "SN-0001"],
            ["sd-4", "Khói 4", "iotcore-call-point", "truong-1", "", ""],
        ],
        ["mã", "tên", "mẫu", "cơ sở", "vùng", "số sê-ri"],
    )
    out, _ = await run(folder, "import", path, "--dry-run", "-o", "json", well=False)
    said = json.loads(out)
    assert (said["added"], said["changed"], said["same"], said["refused"]) == (1, 0, 1, 2)
    assert [(fault["row"], fault["column"], fault["value"]) for fault in said["faults"]] == [
        (3, "model", "iotcore-smoke-haet"),
        (3, "zone", "truong-1-z9"),
        (4, "title", ""),
    ]
    assert "near it: iotcore-smoke-heat" in said["faults"][0]["reason"]
    out, _ = await run(folder, "import", path, "--dry-run", well=False)
    assert "devices row 3, vùng is 'truong-1-z9': no zone 'truong-1-z9'" in out
    assert "would be 1 added, 0 changed, 1 as they were; nothing was stored" in out
    _, err = await run(folder, "import", path, well=False)
    assert "devices row 4, tên: empty; it must be given" in err
    async with await open_registry(registry_url) as registry:
        assert set((await registry.directory(SPECS)).devices) == {"sd-1"}


async def test_a_column_that_a_file_does_not_have_stays_and_an_empty_cell_clears(folder: Path, registry_url: str) -> None:
    await imported(document(folder / "city.json", PLACES))
    path = written(folder / "devices.csv", [["sd-1", "Khói mới", ""]], ["id", "title", "location"])
    assert (await imported(path)).outcome == Imported(0, 1, 0)
    await imported(document(folder / "part.json", {"premises": [{"id": "truong-1", "name": "Trường mới"}]}))
    async with await open_registry(registry_url) as registry:
        found = await registry.document()
    device, place = found["devices"][0], found["premises"][0]
    assert (device["title"], device["location"], device["serial"], device["zone"]) == ("Khói mới", "", "SN-0001", "truong-1-z1")
    assert (place["name"], place["hydrants"]) == ("Trường mới", PLACES["premises"][0]["hydrants"])


@pytest.mark.parametrize("form", ["csv", "xlsx", "json"])
async def test_refused_rows_are_kept_apart_mended_and_imported(folder: Path, registry_url: str, form: str) -> None:
    rows = signals(6)
    rows[1][2] = "iotcore-mqtt-signla"
    rows[3][3] = "S 3"
    path = folder / f"devices.{form}"
    if form == "json":
        fields = ["id", "title", "model", "serial"]
        document(path, {"devices": [dict(zip(fields, row, strict=False)) for row in rows]})
    else:
        written(folder / "devices.csv", rows)
    if form == "xlsx":
        import openpyxl  # noqa: PLC0415 only here

        book = openpyxl.Workbook()
        book.active.title = "devices"
        for row in [HEADER, *rows]:
            book.active.append(row)
        book.save(path)
    report = await imported(path, skip_bad=True)
    rejected = folder / f"devices.rejected.{form}"
    assert (report.outcome.added, report.refused, report.rejected) == (4, 2, rejected)
    assert (await imported(path, skip_bad=True)).outcome == Imported(0, 0, 4)
    with pytest.raises(ConfigError, match="no spec for 'iotcore-mqtt-signla'"):
        await imported(rejected)
    _mend(rejected, {"iotcore-mqtt-signla": "iotcore-mqtt-signal", "S 3": "S3"})
    assert (await imported(rejected)).outcome.added == 2
    async with await open_registry(registry_url) as registry:
        assert len((await registry.directory(SPECS)).devices) == 6
        assert await registry.verify_audit() == []


def _mend(path: Path, words: dict[str, str]) -> None:
    """What a person does with the file."""
    if path.suffix == ".xlsx":
        import openpyxl  # noqa: PLC0415 only here

        book = openpyxl.load_workbook(path)
        for row in book.active.iter_rows():
            for cell in row:
                cell.value = words.get(cell.value, cell.value)
        book.save(path)
        return
    text = path.read_text(encoding="utf-8")
    assert "rejected_because" in text or path.suffix == ".json"
    for wrong, right in words.items():
        head, _, rest = text.partition("\n")
        text = f"{head}\n" + "\n".join(_replaced(line, wrong, right) for line in rest.split("\n"))
    path.write_text(text, encoding="utf-8")


def _replaced(line: str, wrong: str, right: str) -> str:
    return line.replace(f",{wrong},", f",{right},").replace(f'"{wrong}"', f'"{right}"')


async def test_what_names_a_refused_entry_is_refused_with_it_and_said_so(folder: Path) -> None:
    content = {**PLACES, "premises": [{**PLACES["premises"][0], "account": "x"}]}
    path = document(folder / "city.json", content)
    with pytest.raises(ConfigError, match=r"premises\[0\].account is 'x': .* \(account number of SIA DC-09") as refused:
        await imported(path)
    assert len(refused.value.problems) == 1  # the root of it all
    report = await imported(path, skip_bad=True)
    out = "\n".join(report.lines())
    assert "zones[0].premises is 'truong-1': premises[0] is refused itself" in out
    assert "devices[0].premises is 'truong-1': premises[0] is refused itself" in out
    assert report.outcome == Imported(3, 0, 0)  # the areas


async def test_rows_refused_before_are_never_written_over(folder: Path) -> None:
    path = written(folder / "devices.csv", [["a b", "x", "iotcore-mqtt-signal", "", ""]])
    (folder / "devices.rejected.csv").write_text("half mended\n")
    with pytest.raises(StartError, match=r"devices\.rejected\.csv is there already; nothing was imported"):
        await imported(path, skip_bad=True)
    assert (folder / "devices.rejected.csv").read_text() == "half mended\n"


async def killed_in_the_middle(folder: Path, path: Path, registry: Registry) -> None:
    """Kill an import with SIGKILL as soon as its first part is stored."""
    process = await asyncio.create_subprocess_exec(
        *command(folder, "import", path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    while not await registry.last_change():  # noqa: ASYNC110 - it is another process that stores
        await asyncio.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    await process.communicate()


async def test_an_import_that_was_killed_is_finished_by_importing_again(folder: Path, registry_url: str) -> None:
    async with await open_registry(registry_url) as registry:
        path = written(folder / "devices.csv", signals(SIGNALS))
        await killed_in_the_middle(folder, path, registry)
        assert await registry.verify_audit() == []
        stored = len((await registry.document(["devices"]))["devices"])
        assert 0 < stored < SIGNALS
        said = json.loads((await run(folder, "import", path, "-o", "json"))[0])
        assert (said["added"], said["changed"], said["same"]) == (SIGNALS - stored, 0, stored)
        assert await registry.verify_audit() == []
        entries = await registry.audit_entries(limit=10**6)
        assert [entry.deed.action for entry in entries] == ["device.add"] * SIGNALS
        assert len({entry.deed.subject for entry in entries}) == SIGNALS
        assert {entry.deed.by for entry in entries} == {f"login {pwd.getpwuid(os.getuid()).pw_name}"}


async def test_a_fire_is_acknowledged_while_an_import_runs(folder: Path, registry_url: str) -> None:
    path = written(folder / "devices.csv", signals(SIGNALS))
    async with await open_registry(registry_url) as registry:
        process = await asyncio.create_subprocess_exec(
            *command(folder, "import", path, "-o", "json"), stdout=asyncio.subprocess.PIPE
        )
        while not await registry.last_change():  # noqa: ASYNC110 a state to see, not an event
            await asyncio.sleep(0.01)
        waits_s: list[float] = []
        ended = asyncio.create_task(process.wait())
        while not ended.done():
            begun_s = time.perf_counter()
            await registry.intent("acknowledge", f"incident-{len(waits_s)}", "duty officer")
            waits_s.append(time.perf_counter() - begun_s)
            await asyncio.wait({ended}, timeout=0.02)
        assert process.stdout is not None
        said = json.loads(await process.stdout.read())
        assert said["added"] == SIGNALS
        actions = [entry.deed.action for entry in await registry.audit_entries(limit=10**6)]
        between = sum(a == "device.add" and b == "incident.acknowledge" for a, b in itertools.pairwise(actions))
        last_add = len(actions) - actions[::-1].index("device.add")
        assert between >= 5, "whoever acknowledges comes in between the chunks"
        assert "incident.acknowledge" in actions[: last_add // 2]
        assert max(waits_s) < said["seconds"] / 2, waits_s
        assert await registry.verify_audit() == []


async def test_progress_is_json_lines_that_end_at_all_of_it(folder: Path) -> None:
    _, err = await run(folder, "import", written(folder / "devices.csv", signals(300)), "--progress")
    lines = [json.loads(line) for line in err.splitlines()]
    assert [line["phase"] for line in lines[:3]] == ["reading", "checking", "storing"]
    assert {key: lines[-1][key] for key in ("done", "rows", "percent")} == {"done": 300, "rows": 300, "percent": 100.0}
    assert lines[-1]["rows_per_s"] > 0


async def test_a_chunk_that_no_longer_fits_is_refused_and_what_went_before_is_kept(registry_url: str) -> None:
    async with await open_registry(registry_url) as registry:
        await registry.import_city(PLACES, SPECS, "tester")
        content = {
            "devices": [{**PLACES["devices"][0], "id": f"n{i}", "serial": f"N{i}"} for i in range(intake.FIRST_ENTRIES + 1)]
        }
        plan = await judged(registry, content)

        def told(done: int, _: int) -> None:
            if done == intake.FIRST_ENTRIES:
                meanwhile.append(asyncio.ensure_future(registry.import_city(twin, SPECS, "somebody else")))

        meanwhile: list[asyncio.Future[Imported]] = []
        twin = {"devices": [{**content["devices"][-1], "id": "twin"}]}
        with pytest.raises(
            ConfigError, match=r"devices n50, serial: 'n50' has the same serial as 'twin'; the registry was changed"
        ):
            await intake.run(registry.database, plan, SPECS, "tester", clock=SystemClock(), told=told)
        await meanwhile[0]
        assert len((await registry.document(["devices"]))["devices"]) == 1 + intake.FIRST_ENTRIES + 1
        assert await registry.verify_audit() == []


async def test_an_account_that_moves_on_is_given_in_two_documents(registry_url: str) -> None:
    async with await open_registry(registry_url) as registry:
        first = PLACES["premises"][0]
        two = {"areas": PLACES["areas"], "premises": [first, {**first, "id": "cho-1", "account": "1002"}]}
        await registry.import_city(two, SPECS, "tester")
        moved = {"premises": [{"id": "truong-1", "account": "1003"}, {"id": "cho-1", "account": "1001"}]}
        with pytest.raises(ConfigError, match=r"premises\[1\].account: 'truong-1' still has this account"):
            await registry.import_city(moved, SPECS, "tester")
        for one in moved["premises"]:
            assert (await registry.import_city({"premises": [one]}, SPECS, "tester")).changed == 1


async def test_an_old_file_brings_back_no_unit_that_is_gone(folder: Path, registry_url: str) -> None:
    old = written(folder / "devices.csv", [["sd-1", "Khói mới", "SN-0001"]], ["id", "title", "serial"])
    await imported(document(folder / "city.json", PLACES))
    async with await open_registry(registry_url) as registry:
        before = await judged(registry, {"devices": [{"id": "sd-1", "title": "Khói"}]})
        another = Another("SN-0002", "", "vỏ vỡ")
        await Places(registry.database).replace("sd-1", another, SPECS, "tester", token_s=60.0)
        with pytest.raises(ConfigError, match="devices row 2, serial is 'SN-0001': unit SN-0002 stands there"):
            await imported(old)
        with pytest.raises(ConfigError, match=r"devices sd-1, serial: unit SN-0002 .* the registry was changed meanwhile"):
            await intake.run(registry.database, before, SPECS, "tester", clock=SystemClock(), told=lambda *_: None)
        assert (await registry.document(["devices"]))["devices"][0]["serial"] == "SN-0002"


async def test_a_device_keeps_its_state_whatever_is_imported(registry_url: str) -> None:
    async with await open_registry(registry_url) as registry:
        await registry.import_city(PLACES, SPECS, "tester")
        await registry.record_certificate(Certificate("01", "sd-1", "fire", 9, "ff"), "ca")
        plan = await judged(registry, {"devices": [{"id": "sd-1", "title": "Khói"}]})
        await intake.run(registry.database, plan, SPECS, "tester", clock=SystemClock(), told=lambda *_: None)
        assert (await registry.directory(SPECS)).devices["sd-1"].state == "provisioned"


async def test_adding_one_device_does_not_read_all_of_them(registry_url: str) -> None:
    async with await open_registry(registry_url) as registry:
        content = {"devices": [dict(zip(HEADER[:3], row, strict=False)) for row in signals(5_000)]}
        await registry.import_city(content, SPECS, "tester")
        begun_s = time.perf_counter()
        await registry.import_city({"devices": [{**content["devices"][0], "id": "one-more"}]}, SPECS, "tester")
        assert time.perf_counter() - begun_s < 0.5


def test_the_next_chunk_is_as_long_as_it_should_take() -> None:
    assert intake.next_size(100, intake.AIM_S) == 100
    assert intake.next_size(100, intake.AIM_S / 10) == 200  # no faster than doubling
    assert intake.next_size(100, 1.0) == 6
    assert intake.next_size(1, 60.0) == 1
    assert intake.next_size(intake.MAX_ENTRIES, 0.0) == intake.MAX_ENTRIES


async def test_an_export_never_replaces_a_file(folder: Path) -> None:
    await imported(document(folder / "city.json", PLACES))
    with pytest.raises(StartError, match=r"city\.json is there already"):
        await exported(folder / "city.json")
    _, err = await run(folder, "export", "-o", folder / "all.csv", well=False)
    assert "a CSV file holds one kind; add --kind" in err
    assert not (folder / "all.csv").exists()
    assert "1 devices" in (await run(folder, "export", "--kind", "devices", "-o", folder / "all.csv"))[0]
