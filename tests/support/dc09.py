"""A channel to a receiver that speaks DC-09, and rows to send by it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from iotcore.clock import Clock, SystemClock
from iotcore.dispatch.sia_dc09 import Dc09Channel
from iotcore.dispatch.sia_link import LINK_IDLE_S
from iotcore.journal.records import OutboxRow
from iotcore.settings_receivers import Dc09Receiver
from tests.support.fire import notice

INCIDENT = "F20261122-020000-3FA9C1"
KEYS = ["", "0123456789ABCDEF", "0123456789ABCDEF01234567", "0123456789ABCDEF0123456789ABCDEF"]
KEY = KEYS[1]

both = pytest.mark.parametrize("key", ["", KEY], ids=["plain", "encrypted"])
each_key = pytest.mark.parametrize("key", KEYS, ids=["plain", "aes-128", "aes-192", "aes-256"])
each_transport = pytest.mark.parametrize("transport", ["tcp", "udp"])


def row(number: int = 7, **changes: object) -> OutboxRow:
    told = msgspec.structs.replace(notice(), **{"incident": INCIDENT, **changes})
    return OutboxRow(number, told.incident, "arc", number, 0, told)


@asynccontextmanager
async def channel(
    port: int,
    key: str = "",
    clock: Clock | None = None,
    *,
    reply_timeout_s: float = 2.0,
    link_idle_s: float = LINK_IDLE_S,
    **more: Any,
) -> AsyncIterator[Dc09Channel]:
    settings = Dc09Receiver("arc", "127.0.0.1", port, key=key, reply_timeout_s=reply_timeout_s, **more)
    channel = Dc09Channel(settings, clock or SystemClock(), link_idle_s=link_idle_s)
    try:
        yield channel
    finally:
        await channel.close()


def ignore(at_ms: float) -> None:
    del at_ms
