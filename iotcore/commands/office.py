"""What an operator looks at from the command line: devices, incidents. What changes something is in `acting`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime

import msgspec

from iotcore.app import common
from iotcore.clock import SystemClock
from iotcore.journal.database import connect_readonly, is_there
from iotcore.journal.timeline import incidents as read_incidents
from iotcore.process import home
from iotcore.registry import vendors
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import Settings
from iotcore.web.view import StoredView

UNPROVEN = "unproven, no receipt"  # of a vendor's MQTT device


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Registry]:
    """The registry, closed at the end."""
    home.check_folder(settings.folder)
    registry = await open_registry(settings.registry_url, SystemClock())
    try:
        yield registry
    finally:
        await registry.close()


async def devices(settings: Settings) -> list[dict[str, object]]:
    """All devices, a row each, with what is odd about how they deliver."""
    async with opened(settings) as registry:
        directory = await registry.directory(common.specs_of(settings))
    with closing(StoredView(settings.folder, lambda: directory, settings.journal_place)) as view:
        conduct = view.conduct()
    return [
        {
            "device": b.device,
            "title": b.title,
            "model": b.spec.model,
            "state": b.state,
            "premises": b.premises,
            "zone": b.zone,
            "publisher": b.publisher,
            "connection": b.connection,
            "identity": UNPROVEN if vendors.is_vendor(b) else "",
            **{name: value for name, value in conduct.get(b.device, {}).items() if value},
        }
        for b in directory.devices.values()
    ]


def incidents(settings: Settings) -> list[dict[str, object]]:
    """The newest incidents with their timelines, a row each."""
    path = settings.journal_place
    if not is_there(path):
        return []
    with closing(connect_readonly(path)) as connection:
        return [{**msgspec.to_builtins(one), "latencies_ms": one.latencies_ms()} for one in read_incidents(connection)]


def moment(at_ms: float | None) -> str:
    """A time in UTC as people read it; a dash for none."""
    return "–" if at_ms is None else f"{datetime.fromtimestamp(at_ms / 1000.0, UTC):%Y-%m-%d %H:%M:%SZ}"
