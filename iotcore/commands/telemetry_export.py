"""iotcore telemetry export: readings of a range out of the store into one file, line by line, with a manifest beside it.

    embedded store: `readback` ─┐                ┌─► FILE.lp, FILE.lp.gz   line protocol
                                ├─► lines ─ each ┤
    InfluxDB: `influx_readback`─┘                └─► FILE.parquet          one row for each value

Nothing is held but a page of the store and a row group of the file.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import iotcore
from iotcore.app import common
from iotcore.clock import Clock
from iotcore.commands import line_file, parquet_file, whole_file
from iotcore.commands.moments import utc
from iotcore.commands.near import near
from iotcore.errors import StartError, StoreError
from iotcore.process import home
from iotcore.registry.directory import Binding
from iotcore.settings import Settings
from iotcore.specs.load import shipped_folder
from iotcore.specs.model import DeviceClass
from iotcore.telemetry import influx_readback, readback
from iotcore.telemetry.influx_link import Link
from iotcore.telemetry.stores import CONFIDENTIAL_DB, TELEMETRY_DB

SUFFIXES = {"lp": (".lp", ".lp.gz"), "parquet": (".parquet",)}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to export: readings within [start, end), ms UTC, of devices that are all of what is said; "" means any."""

    span_ms: tuple[float, float]
    devices: tuple[str, ...] = ()
    premises: str = ""
    device_class: str = ""
    format: str = "lp"


def target(out: Path, wanted: Wanted) -> Path:
    """The file that is meant by -O FILE, or by -O FOLDER.

    Raises:
        StartError: when its name says another format.
    """
    endings = SUFFIXES[wanted.format]
    if out.is_dir():
        start, end = (utc(at).replace("-", "").replace(":", "").partition(".")[0] for at in wanted.span_ms)
        return out / f"telemetry-{start}Z-{end}Z{endings[-1]}"
    if not out.name.endswith(endings):
        raise StartError(f"{out} is not named as --format {wanted.format}", f"End it with {' or '.join(endings)}.")
    return out


async def export(settings: Settings, clock: Clock, wanted: Wanted, path: Path) -> whole_file.Manifest:
    """Write the file `path` and its manifest; each is there whole or not at all.

    Raises:
        StartError: for a device that there is not, or a file that cannot be written.
        StoreError: when the store cannot be read.
    """
    home.check_folder(settings.folder)
    async with common.opened(settings, clock) as (_, follower):
        known = follower.directory.devices
    chosen = choose(known, wanted)
    make = parquet_file.parquet_file if wanted.format == "parquet" else line_file.line_file
    counts: dict[str, int] = {}
    with make(path) as write:
        async for device, line in _lines(settings, chosen, wanted):
            write(line)
            counts[device] = counts.get(device, 0) + 1
    sha256, size = await asyncio.to_thread(whole_file.measured, path)
    manifest = whole_file.Manifest(
        schema=whole_file.SCHEMA_VERSION,
        file=path.name,
        format=wanted.format,
        start=utc(wanted.span_ms[0]),
        end=utc(wanted.span_ms[1]),
        readings=sum(counts.values()),
        devices=len(counts),
        sha256=sha256,
        bytes=size,
        written=utc(clock.wall_ms()),
        store=settings.store.kind,
        iotcore=iotcore.__version__,
        specs=_specs(settings, {known[device].spec.model for device in counts if device in known}),
    )
    whole_file.write_manifest(path, manifest)
    return manifest


def choose(known: Mapping[str, Binding], wanted: Wanted) -> dict[str, Binding]:
    """The devices of the registry that are meant.

    Raises:
        StartError: for a device or premises that there is not, or when nothing is left.
    """
    for device in wanted.devices:
        if device not in known:
            raise StartError(f"There is no device {device!r}", near(device, known))
    premises = {binding.premises for binding in known.values() if binding.premises}
    if wanted.premises and wanted.premises not in premises:
        raise StartError(f"No device is at premises {wanted.premises!r}", near(wanted.premises, premises))
    chosen = {
        device: binding
        for device, binding in sorted(known.items())
        if (not wanted.devices or device in wanted.devices)
        and wanted.premises in {"", binding.premises}
        and wanted.device_class in {"", binding.spec.device_class}
    }
    if not chosen and known:
        raise StartError("No device is all of what was asked for", "Leave out --device, --premises or --class.")
    return chosen


async def _lines(settings: Settings, chosen: Mapping[str, Binding], wanted: Wanted) -> AsyncIterator[tuple[str, bytes]]:
    """Every line with its device: device by device, each by time."""
    if settings.store.kind == "embedded":
        names = [TELEMETRY_DB, *([CONFIDENTIAL_DB] if settings.store.confidential else [])]
        files = [path for name in names if (path := settings.folder / name).exists()]
        if not files:
            raise StoreError(f"{settings.folder / TELEMETRY_DB} is not there: nothing has been stored yet; check `data`")
        try:
            if wanted == Wanted(wanted.span_ms, format=wanted.format):
                _say_strangers({device for path in files for device in readback.devices_in(path)} - set(chosen))
            for device, binding in chosen.items():
                for path in files:
                    for line in readback.lines(path, binding, wanted.span_ms):
                        yield device, line
        except sqlite3.Error as error:
            raise StoreError(f"the telemetry store cannot be read: {error}") from error
        return
    async with Link(settings.store) as link:
        names = [settings.store.database, *([settings.store.database_confidential] if settings.store.confidential else [])]
        for database in names:
            async for found in _influx_lines(link, database, chosen, wanted):
                yield found


async def _influx_lines(
    link: Link, database: str, chosen: Mapping[str, Binding], wanted: Wanted
) -> AsyncIterator[tuple[str, bytes]]:
    """Also of devices that the registry no longer knows, unless it was asked for some."""
    for measurement in get_args(DeviceClass):
        if wanted.device_class in {"", measurement} and (types := await influx_readback.field_types(link, database, measurement)):
            for device in await influx_readback.devices_in(link, database, measurement):
                if device in chosen or not (wanted.devices or wanted.premises):
                    async for line in influx_readback.lines(link, database, (measurement, device), types, wanted.span_ms):
                        yield device, line


def _say_strangers(devices: Collection[str]) -> None:
    """A line needs a class and a model, and the embedded store has neither: the registry must know the device."""
    if devices:
        named = ", ".join(sorted(devices)[:5])
        sys.stderr.write(f"left out: {len(devices)} devices that are in the store and not in the registry ({named} …)\n")


def _specs(settings: Settings, models: Collection[str]) -> dict[str, str]:
    """The SHA-256 of the spec file of each model: which meaning of the points the readings were made with."""
    folder = Path(settings.specs) if settings.specs else shipped_folder()
    return {model: whole_file.sha256(folder / f"{model}.yaml") for model in sorted(models)}


async def run(settings: Settings, clock: Clock, wanted: Wanted, out: Path) -> int:
    """Export, and say what was written."""
    path = target(out, wanted)
    done = await export(settings, clock, wanted, path)
    sys.stdout.write(f"{path}: {done.readings} readings of {done.devices} devices, {done.bytes} bytes, sha256 {done.sha256}\n")
    return 0
