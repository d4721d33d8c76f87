"""What a Mosquitto of ours counts, read from its `$SYS` topics through the listener on loopback (`session_cut`).

A full queue drops messages while every publisher is answered "success": the number of dropped messages is where it shows.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from iotcore.provision.session_cut import CLIENTS, DROPPED, PUBLISH, CutError, Door, opened, read, subscribe

LIMIT_S = 3.0  # for all of it; the topics are retained, so they come at once


@dataclass(frozen=True, slots=True)
class Figures:
    """`dropped` messages since the broker's start, and `clients` that are connected now."""

    dropped: int
    clients: int


async def read_figures(door: Door) -> Figures:
    """Ask the broker.

    Raises:
        CutError: it does not answer, or has not counted yet (right after its start).
    """
    found: dict[str, int] = {}
    try:
        async with asyncio.timeout(LIMIT_S), opened(door) as (reader, writer):
            subscribe(writer, DROPPED, CLIENTS)
            while not {DROPPED, CLIENTS} <= found.keys():
                body = await read(reader, PUBLISH)  # at QoS 0: topic, then payload
                end = 2 + int.from_bytes(body[:2], "big")
                found[body[2:end].decode()] = int(body[end:])
    except (TimeoutError, OSError, ValueError, asyncio.IncompleteReadError) as error:
        raise CutError(f"the broker's figures, port {door.port}: {str(error) or type(error).__name__}") from error
    return Figures(found[DROPPED], found[CLIENTS])
