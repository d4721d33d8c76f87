"""The telemetry store that the settings name, opened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from iotcore.clock import Clock
from iotcore.settings import Settings
from iotcore.telemetry.embedded import EmbeddedStore, TelemetryFile
from iotcore.telemetry.influx import Influx1, Influx2
from iotcore.telemetry.store import Store

TELEMETRY_DB = "telemetry.db"


@asynccontextmanager
async def open_store(settings: Settings, clock: Clock, file: TelemetryFile | None = None) -> AsyncIterator[Store]:
    """The store of `settings.store.kind`. `file` is the process's own telemetry.db; without it, it is opened for this use."""
    if settings.store.kind == "influx1":
        async with Influx1(settings.store, clock) as influx1:
            yield influx1
    elif settings.store.kind == "influx2":
        async with Influx2(settings.store, clock) as influx2:
            yield influx2
    elif file is not None:
        yield EmbeddedStore(file)
    else:
        async with TelemetryFile(settings.folder / TELEMETRY_DB) as own:
            yield EmbeddedStore(own)
