"""An installation at rest for the `iotcore telemetry` commands: settings file, registry, and readings in its store."""

from __future__ import annotations

from pathlib import Path

import msgspec

from iotcore.clock import ManualClock
from iotcore.reading import Quality, Reading, Value
from iotcore.registry.store import open_registry
from iotcore.settings import Settings, Store
from iotcore.telemetry.stores import open_store
from tests.support.joined import joined
from tests.support.shipped import SPECS

START_MS = 1_795_312_800_000.0  # 2026-11-22T02:00:00Z, 09:00 in Việt Nam
EVERY_MS = 10_000.0
CLOCK = ManualClock(now_ms=START_MS + 3_600_000.0)
CITY = {
    "premises": [
        {"id": "p1", "name": "Chợ, 1", "address": "1 Lê Lợi", "latitude": 19.8, "longitude": 105.77, "account": "a001"},
    ],
    "zones": [{"id": "p1-z1", "premises": "p1", "number": 1, "floor": "1", "name": "Sảnh"}],
    "devices": [
        {"id": "sd-1", "title": "Đầu báo", "model": "iotcore-smoke-heat", "premises": "p1", "zone": "p1-z1"},
        {"id": "sd-2", "title": "Đầu báo", "model": "iotcore-smoke-heat", "premises": "p1", "zone": "p1-z1"},
        {"id": "tl-1", "title": "Đèn", "model": "iotcore-mqtt-signal"},
    ],
}


def reading(device: str, seq: int, *values: Value, test: bool = False) -> Reading:
    at_ms = START_MS + seq * EVERY_MS
    return Reading(device=device, boot="b", seq=seq, kind="reading", observed_ms=at_ms, received_ms=at_ms, told=values, test=test)


def readings(count: int) -> list[Reading]:
    """`count` of each device, with every kind and quality of value there is."""
    found = []
    for seq in range(count):
        bad = Value("temperature", 2000.0, Quality.BAD, "out_of_range") if seq % 7 == 3 else Value("temperature", 20.0 + seq / 8)
        gone = (
            Value("battery", None, Quality.BAD, "timeout") if seq % 5 == 2 else Value("battery", 98.5, Quality.UNCERTAIN, "old")
        )
        alarm = Value("alarm", seq % 11 == 10)
        found += [reading(device, seq, Value("smoke", 0.1 * seq), bad, gone, alarm, test=seq == 4) for device in ("sd-1", "sd-2")]
        mode = Value("mode", ['say "go"', "a, b=c", "back\\slash", "Xanh"][seq % 4])
        found.append(reading("tl-1", seq, Value("plan", float(seq)), mode, Value("lamp_fault", False)))  # noqa: FBT003 - the value
    return found


async def prepared(folder: Path, made: list[Reading], store: Store | None = None) -> Settings:
    """A data folder with the registry of `CITY` and `made` in the store; `iotcore.toml` in `folder` says where it is.

    A `store` in InfluxDB should keep its readings for ever (`retention_days` 0): their times are fixed.
    """
    settings = Settings(data=str(folder / "data"), store=store or Store())
    settings.folder.mkdir(parents=True)
    (folder / "iotcore.toml").write_text(
        f'data = "{settings.data}"\n[store]\nkind = "{settings.store.kind}"\nurl = "{settings.store.url}"\n', encoding="utf-8"
    )
    async with await open_registry(settings.registry_url, CLOCK) as registry:
        await registry.import_city(msgspec.json.decode(msgspec.json.encode(CITY)), SPECS, "test")
        bindings = (await registry.directory(SPECS)).devices
    async with open_store(settings, CLOCK) as one:
        await one.ensure()
        if made:
            await one.write(*joined(*(one.record(reading, bindings[reading.device]) for reading in made)))
    return settings
