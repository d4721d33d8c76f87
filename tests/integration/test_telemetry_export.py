"""Export and import: what goes out comes back the same, from either store into either, and nothing is there twice."""

from __future__ import annotations

import asyncio
import gzip
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet
import pytest
from msgspec import structs

from iotcore.commands.telemetry_export import Wanted, export
from iotcore.commands.telemetry_import import import_files
from iotcore.errors import QueryError, StartError, StoreError
from iotcore.reading import Value
from iotcore.registry.directory import Binding
from iotcore.registry.store import open_registry
from iotcore.settings import Settings, Store
from iotcore.telemetry import influx_readback, readback
from iotcore.telemetry.embedded import EmbeddedStore, TelemetryFile
from iotcore.telemetry.influx_link import Link
from iotcore.telemetry.line import line
from iotcore.telemetry.store import Written
from iotcore.telemetry.stores import CONFIDENTIAL_DB, TELEMETRY_DB
from tests.support.influx import Influxd
from tests.support.joined import joined
from tests.support.ports import free_port
from tests.support.shipped import SPECS
from tests.support.technician import said
from tests.support.telemetry_folder import CLOCK, EVERY_MS, START_MS, prepared, reading, readings

COUNT = 60
ALL = Wanted((START_MS, START_MS + COUNT * EVERY_MS))
MADE = readings(COUNT)


@pytest.fixture(scope="module")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    with Influxd(tmp_path_factory.mktemp("influx")) as server:
        yield server


def rows(settings: Settings, file: str = TELEMETRY_DB) -> list[tuple[Any, ...]]:
    """Everything in the embedded store."""
    with closing(sqlite3.connect(settings.folder / file)) as connection:
        return connection.execute(
            "SELECT device, point, at_ns, value, quality, test FROM value JOIN series ON series.id = series ORDER BY 1, 2, 3"
        ).fetchall()


async def bindings(settings: Settings) -> Mapping[str, Binding]:
    async with await open_registry(settings.registry_url, CLOCK) as registry:
        return (await registry.directory(SPECS)).devices


async def exported(settings: Settings, path: Path, wanted: Wanted = ALL) -> bytes:
    await export(settings, CLOCK, wanted, path)
    return await asyncio.to_thread(path.read_bytes)


async def test_every_line_is_the_one_that_would_have_been_written_to_influxdb(tmp_path: Path) -> None:
    settings = await prepared(tmp_path, MADE)
    found = (await exported(settings, tmp_path / "all.lp")).splitlines()
    known = await bindings(settings)
    by_name = [structs.replace(one, told=tuple(sorted(one.values, key=lambda value: value.point))) for one in MADE]
    assert sorted(found) == sorted(line(one, known[one.device]) for one in by_name)


@pytest.mark.parametrize("name", ["all.lp", "all.lp.gz", "all.parquet"])
async def test_an_export_fills_an_empty_store_with_the_same_values_and_again_with_no_more(tmp_path: Path, name: str) -> None:
    settings = await prepared(tmp_path / "one", MADE)
    other = await prepared(tmp_path / "two", [])
    file = tmp_path / name
    await export(settings, CLOCK, ALL if name.endswith(("lp", "gz")) else Wanted(ALL.span_ms, format="parquet"), file)
    for _ in range(2):
        outcome = await import_files(other, CLOCK, [file])
        assert (outcome.readings, outcome.refused) == (len(MADE), 0)
        assert rows(other) == rows(settings)


@pytest.mark.parametrize("suffix", ["lp", "parquet"])
async def test_a_round_trip_through_a_real_influxdb_loses_nothing(tmp_path: Path, influxd: Influxd, suffix: str) -> None:
    influxd.query('DROP DATABASE "iotcore"')
    embedded = await prepared(tmp_path / "one", MADE)
    influx = await prepared(tmp_path / "two", [], Store(kind="influx1", url=influxd.url, retention_days=0))
    wanted = Wanted(ALL.span_ms, format=suffix)
    out, back = tmp_path / f"out.{suffix}", tmp_path / f"back.{suffix}"
    await export(embedded, CLOCK, wanted, out)
    for _ in range(2):
        assert (await import_files(influx, CLOCK, [out])).readings == len(MADE)
    assert influxd.count("fire_detector") + influxd.count("traffic_signal") == len(MADE)
    await export(influx, CLOCK, wanted, back)
    again = await prepared(tmp_path / "three", [])
    await import_files(again, CLOCK, [back])
    assert rows(again) == rows(embedded)
    if suffix == "lp":
        assert back.read_bytes() == out.read_bytes()


async def test_a_long_range_is_read_page_by_page_from_either_store(tmp_path: Path, influxd: Influxd) -> None:
    influxd.query('DROP DATABASE "iotcore"')
    settings = await prepared(tmp_path / "one", MADE)
    influx = await prepared(tmp_path / "two", MADE, Store(kind="influx1", url=influxd.url, retention_days=0))
    binding = (await bindings(settings))["sd-1"]
    whole = list(readback.lines(settings.folder / TELEMETRY_DB, binding, ALL.span_ms))
    assert len(whole) == COUNT
    assert list(readback.lines(settings.folder / TELEMETRY_DB, binding, ALL.span_ms, page_rows=7)) == whole
    async with Link(influx.store) as link:
        types = await influx_readback.field_types(link, influx.store.database, "fire_detector")
        for page_rows in (5_000, 60, 7, 2):
            series = ("fire_detector", "sd-1")
            found = influx_readback.lines(link, influx.store.database, series, types, ALL.span_ms, page_rows=page_rows)
            assert [one async for one in found] == whole


async def test_a_parquet_file_has_a_row_for_each_value_with_types_that_others_read(tmp_path: Path) -> None:
    settings = await prepared(tmp_path, MADE)
    await export(settings, CLOCK, Wanted(ALL.span_ms, devices=("tl-1",), format="parquet"), tmp_path / "signal.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "signal.parquet")
    assert str(table.schema.field("time").type) == "timestamp[ns, tz=UTC]"
    assert str(table.schema.field("value").type) == "double"
    assert table.num_rows == COUNT * 3
    first = {row["point"]: row for row in table.slice(0, 3).to_pylist()}
    assert first["mode"]["text"] == 'say "go"'
    assert first["mode"]["value"] is None
    assert first["lamp_fault"]["value"] == 0.0
    assert {
        (row["device"], row["model"], row["class"], row["premises"], row["quality"], row["test"]) for row in first.values()
    } == {("tl-1", "iotcore-mqtt-signal", "traffic_signal", "", "good", False)}


async def test_only_what_was_asked_for_is_exported(tmp_path: Path) -> None:
    settings = await prepared(tmp_path, MADE)

    async def devices(wanted: Wanted, name: str) -> set[bytes]:
        found = await exported(settings, tmp_path / name, wanted)
        return {one.split(b",device=")[1].split(b",")[0] for one in found.splitlines()}

    assert await devices(Wanted(ALL.span_ms, devices=("sd-2",)), "a.lp") == {b"sd-2"}
    assert await devices(Wanted(ALL.span_ms, premises="p1"), "b.lp") == {b"sd-1", b"sd-2"}
    assert await devices(Wanted(ALL.span_ms, device_class="traffic_signal"), "c.lp") == {b"tl-1"}
    two = await exported(settings, tmp_path / "d.lp", Wanted((START_MS + EVERY_MS, START_MS + 3 * EVERY_MS)))
    assert len(two.splitlines()) == 2 * 3, "the end is not included"


async def test_what_there_is_not_is_refused_with_what_is_near(tmp_path: Path) -> None:
    settings = await prepared(tmp_path, [])
    with pytest.raises(StartError, match=r"There is no device 'sd1'\. Did you mean sd-1"):
        await export(settings, CLOCK, Wanted(ALL.span_ms, devices=("sd1",)), tmp_path / "a.lp")
    with pytest.raises(StartError, match=r"No device is at premises 'p9'\. Did you mean p1"):
        await export(settings, CLOCK, Wanted(ALL.span_ms, premises="p9"), tmp_path / "a.lp")
    assert names(tmp_path, "a.lp*") == []


async def test_the_manifest_says_what_the_file_holds_and_a_changed_file_is_not_imported(tmp_path: Path) -> None:
    settings = await prepared(tmp_path, MADE)
    file = tmp_path / "all.lp.gz"
    await export(settings, CLOCK, ALL, file)
    manifest = json.loads((tmp_path / "all.lp.gz.manifest.json").read_bytes())
    assert manifest["sha256"] == sha256sum(file)
    assert (manifest["from"], manifest["to"]) == ("2026-11-22T02:00:00.000Z", "2026-11-22T02:10:00.000Z")
    assert (manifest["readings"], manifest["devices"], manifest["schema"]) == (len(MADE), 3, 1)
    assert set(manifest["specs"]) == {"iotcore-smoke-heat", "iotcore-mqtt-signal"}
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StartError, match=r"is not what all\.lp\.gz\.manifest\.json describes"):
        await import_files(settings, CLOCK, [file])


async def test_a_device_that_the_registry_does_not_know_is_said_to_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = await prepared(tmp_path, MADE)
    file = tmp_path / "other.lp"
    file.write_text("fire_detector,device=sd-9 smoke=1.0 1\n", encoding="utf-8")
    await import_files(settings, CLOCK, [file])
    assert len((await exported(settings, tmp_path / "all.lp", Wanted((0.0, ALL.span_ms[1])))).splitlines()) == len(MADE)
    assert capsys.readouterr().err == "left out: 1 devices that are in the store and not in the registry (sd-9 …)\n"


@pytest.mark.parametrize("kind", ["embedded", "influx1"])
async def test_confidential_classes_go_out_and_come_back_into_their_own_store(
    tmp_path: Path, influxd: Influxd, kind: Literal["embedded", "influx1"]
) -> None:
    for name in ("iotcore", "iotcore_confidential"):
        influxd.query(f'DROP DATABASE "{name}"')
    store = Store(kind=kind, url=influxd.url, retention_days=0, confidential=["traffic"])
    source, settings = await prepared(tmp_path / "one", MADE), await prepared(tmp_path / "two", [], store)
    whole = await exported(source, tmp_path / "all.lp")
    assert (await import_files(settings, CLOCK, [tmp_path / "all.lp"])).readings == len(MADE)
    if kind == "embedded":
        assert {row[0] for row in rows(settings)} == {"sd-1", "sd-2"}
        assert {row[0] for row in rows(settings, CONFIDENTIAL_DB)} == {"tl-1"}
    else:
        assert influxd.count("traffic_signal") == 0
        (series,) = influxd.query("SELECT count(plan) FROM traffic_signal", "iotcore_confidential")
        assert series["values"][0][1] == COUNT
    assert sorted((await exported(settings, tmp_path / "again.lp")).splitlines()) == sorted(whole.splitlines())


async def test_what_is_imported_late_is_rolled_up_again(tmp_path: Path) -> None:
    source, settings = await prepared(tmp_path / "one", MADE), await prepared(tmp_path / "two", [])
    await exported(source, tmp_path / "all.lp")
    await import_files(settings, CLOCK, [tmp_path / "all.lp"])
    with closing(sqlite3.connect(settings.folder / TELEMETRY_DB)) as connection:
        late = set(connection.execute("SELECT device, point, hour_ms FROM late JOIN series ON series.id = series"))
    assert late == {(row[0], row[1], int(START_MS)) for row in rows(settings)}


async def test_a_broken_line_is_named_and_its_neighbours_are_imported(tmp_path: Path, influxd: Influxd) -> None:
    influxd.query('DROP DATABASE "iotcore"')
    settings = await prepared(tmp_path / "one", MADE)
    lines = (await exported(settings, tmp_path / "all.lp")).splitlines()
    file = tmp_path / "broken.lp"
    file.write_bytes(b"\n".join([b"# from elsewhere", lines[0], b"nonsense", b"", lines[1], lines[2].rsplit(b" ", 1)[0]]))
    for folder, store in (("two", Store()), ("three", Store(kind="influx1", url=influxd.url, retention_days=0))):
        other = await prepared(tmp_path / folder, [], store)
        outcome = await import_files(other, CLOCK, [file])
        assert (outcome.readings, outcome.refused) == (2, 2)
        assert outcome.shown == [f"{file}:3: has no blank between tags and fields", f"{file}:6: has no timestamp"]


async def test_a_line_that_influxdb_refuses_is_named_too(tmp_path: Path, influxd: Influxd) -> None:
    influxd.query('DROP DATABASE "iotcore"')
    settings = await prepared(tmp_path / "one", MADE, Store(kind="influx1", url=influxd.url, retention_days=0))
    file = tmp_path / "other.lp"
    lines = [f"fire_detector,device=sd-9 smoke={value} {n}" for n, value in enumerate(["1.0", '"thick"', "2.0"], 1)]
    file.write_text("\n".join(lines), encoding="utf-8")
    outcome = await import_files(settings, CLOCK, [file])
    assert (outcome.readings, outcome.refused) == (2, 1)
    assert outcome.shown[0].startswith(f"{file}:2: the store refused it: ")


async def test_an_export_that_fails_leaves_no_file(tmp_path: Path) -> None:
    store = Store(kind="influx1", url=f"http://127.0.0.1:{free_port()}", retention_days=0)
    settings = await prepared(tmp_path, [], store)
    with pytest.raises(QueryError, match="unreachable"):
        await export(settings, CLOCK, ALL, tmp_path / "all.lp")
    with pytest.raises(StoreError, match="the telemetry store cannot be written"):
        await import_files(settings, CLOCK, [_file(tmp_path / "one.lp")])
    assert names(tmp_path, "all.lp*") == []


async def test_a_file_cut_off_is_said_to_be(tmp_path: Path) -> None:
    settings = await prepared(tmp_path, [])
    file = tmp_path / "cut.lp.gz"
    file.write_bytes(gzip.compress(b"m,device=a f=1 1\n" * 1000)[:-20])
    with pytest.raises(StartError, match="is damaged or cut off"):
        await import_files(settings, CLOCK, [file])
    (tmp_path / "no.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(StartError, match="cannot be read as Parquet"):
        await import_files(settings, CLOCK, [tmp_path / "no.parquet"])


async def test_from_the_command_line_there_and_back(tmp_path: Path) -> None:
    await prepared(tmp_path / "one", MADE)
    await prepared(tmp_path / "two", [])
    range_ = ("--from", "2026-11-22T09:00", "--to", "2026-11-22T09:10", "-O", str(tmp_path))
    out = await said("telemetry", "export", *range_, cwd=tmp_path / "one")
    file = tmp_path / "telemetry-20261122T020000Z-20261122T021000Z.lp.gz"
    assert (out.code, out.err) == (0, "")
    assert out.out.startswith(f"{file}: {len(MADE)} readings of 3 devices, ")
    again = await said("telemetry", "export", *range_, cwd=tmp_path / "one")
    assert again.code == 1
    assert "is there already. Nothing is replaced" in again.err
    back = await said("telemetry", "import", str(file), cwd=tmp_path / "two")
    assert (back.code, back.out) == (0, f"{len(MADE)} readings imported, 0 lines left out\n")
    file.with_name("bad.lp").write_text("nonsense\n", encoding="utf-8")
    bad = await said("telemetry", "import", str(file.with_name("bad.lp")), cwd=tmp_path / "two")
    assert (bad.code, bad.out) == (1, "0 readings imported, 1 lines left out\n")
    assert bad.err == f"{file.with_name('bad.lp')}:1: has no blank between tags and fields\n"


async def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = await prepared(tmp_path, MADE)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(StartError, match=r"pip install 'iotcore\[parquet\]'"):
        await export(settings, CLOCK, Wanted(ALL.span_ms, format="parquet"), tmp_path / "all.parquet")


async def test_an_import_leaves_the_file_to_the_lane_in_between(tmp_path: Path) -> None:
    made = readings(700)
    source, live = await prepared(tmp_path / "one", made), await prepared(tmp_path / "two", [])
    file = tmp_path / "all.lp"
    await export(source, CLOCK, Wanted((START_MS, START_MS + 700 * EVERY_MS)), file)
    importing = asyncio.create_task(import_files(live, CLOCK, [file]))
    written, slowest_s = 0, 0.0
    async with TelemetryFile(live.folder / TELEMETRY_DB) as own:
        lane = EmbeddedStore(own)
        binding = (await bindings(live))["sd-1"]
        while not importing.done():
            written += 1
            record = lane.record(reading("sd-1", -written, Value("smoke", 0.5)), binding)
            start_s = time.monotonic()
            assert await lane.write(*joined(record)) == Written()
            slowest_s = max(slowest_s, time.monotonic() - start_s)
            await asyncio.sleep(0.002)
    assert (await importing).readings == len(made)
    assert written > 5
    assert slowest_s < 2.0, "the lane waited for the import as if there were no pauses"
    assert len(rows(live)) == len(rows(source)) + written


def names(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


def sha256sum(file: Path) -> str:
    return subprocess.run(["sha256sum", str(file)], capture_output=True, text=True, check=True).stdout.split()[0]


def _file(path: Path) -> Path:
    path.write_text("m,device=a f=1 1\n", encoding="utf-8")
    return path
