"""The keeper's part in coverage: a look at the start and one each day of the city's calendar, kept in the registry."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from iotcore.clock import Clock
from iotcore.errors import StartError, StoreError
from iotcore.registry.coverage import LIVE_LEAST_S, Signs, assess
from iotcore.registry.coverage_days import CoverageDays
from iotcore.registry.directory import Directory
from iotcore.registry.store import Registry
from iotcore.settings import Settings
from iotcore.telemetry.coverage import Files, signs_of_life
from iotcore.telemetry.stores import TELEMETRY_DB

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
SETTLE_S = LIVE_LEAST_S  # after a start of everything, who lives has been heard by then
LOOK_S = 60.0
BY = "keeper"
log = logging.getLogger(__name__)


def files(settings: Settings) -> Files:
    """The files that know who is there."""
    return Files(settings.folder / TELEMETRY_DB, settings.journal_place)


def day_of(at_ms: float) -> date:
    """The day of the city's calendar."""
    return datetime.fromtimestamp(at_ms / 1000.0, UTC).astimezone(ZONE).date()


def signs_now(settings: Settings) -> Signs:
    """Who is there, for a command: nobody where no telemetry worker has ever run.

    Raises:
        StartError: the files are there and cannot be read.
    """
    known = files(settings)
    try:
        return signs_of_life(known) if known.telemetry.exists() else Signs()
    except sqlite3.Error as error:
        raise StartError(
            f"Who is there cannot be read from {known.telemetry}: {error}", "Is the telemetry worker running?"
        ) from error


async def run(
    settings: Settings,
    registry: Registry,
    directory: Callable[[], Directory],
    clock: Clock,
    *,
    settle_s: float = SETTLE_S,
    look_s: float = LOOK_S,
) -> None:
    """Keep the coverage of each day until cancelled; what fails is said once and tried again a minute later."""
    days = CoverageDays(registry.database)
    await asyncio.sleep(settle_s)
    kept: date | None = None
    failing = False
    while True:
        now_ms = clock.wall_ms()
        try:
            if day_of(now_ms) != kept:
                signs = await asyncio.to_thread(signs_of_life, files(settings))
                within = settings.coverage.tested_within_days
                found = await asyncio.to_thread(assess, directory(), signs, now_ms, within)
                await days.keep(day_of(now_ms), found, BY, settings.cell)
                kept = day_of(now_ms)
            failing = False
        except (StoreError, sqlite3.Error) as error:
            if not failing:
                log.warning("the coverage of the day could not be kept: %s", error)
            failing = True
        await asyncio.sleep(look_s)
