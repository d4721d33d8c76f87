"""The telemetry stores that the settings name, opened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from iotcore.clock import Clock
from iotcore.settings import Settings
from iotcore.telemetry.embedded import EmbeddedStore, TelemetryFile
from iotcore.telemetry.influx import Influx1, Influx2
from iotcore.telemetry.late import noting
from iotcore.telemetry.store import Confidential, Store

TELEMETRY_DB = "telemetry.db"
CONFIDENTIAL_DB = "telemetry-confidential.db"


@asynccontextmanager
async def open_store(
    settings: Settings, clock: Clock, file: TelemetryFile | None = None, *, confidential: bool = False
) -> AsyncIterator[Store]:
    """The store of `settings.store.kind`. `file` is the process's own telemetry.db, in which late lines are noted (`late`).

    The embedded store is that file; one that nobody gives, or that of confidential readings, is opened for this use.
    """
    if settings.store.kind == "influx1":
        async with Influx1(settings.store, clock, confidential=confidential) as influx1:
            yield noting(influx1, file, clock)
    elif settings.store.kind == "influx2":
        async with Influx2(settings.store, clock, confidential=confidential) as influx2:
            yield noting(influx2, file, clock)
    elif file is not None and not confidential:
        yield EmbeddedStore(file)
    else:
        path = settings.folder / (CONFIDENTIAL_DB if confidential else TELEMETRY_DB)
        async with TelemetryFile(path, private=confidential) as own:
            yield EmbeddedStore(own, confidential=confidential)


@asynccontextmanager
async def open_confidential(
    settings: Settings, clock: Clock, file: TelemetryFile | None = None
) -> AsyncIterator[Confidential | None]:
    """The store of confidential readings; none when the settings call nothing confidential."""
    if not settings.store.confidential:
        yield None
        return
    async with open_store(settings, clock, file, confidential=True) as store:
        yield Confidential(store, frozenset(settings.store.confidential))
