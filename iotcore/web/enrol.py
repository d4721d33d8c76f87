"""Where the code on a label leads: `/enrol/NAME`, the id or the serial number of a device."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from iotcore.web.view import Shown

MAX_NAME = 64  # characters of an id or a serial


async def labelled(
    name: str,
    device: Callable[[str], Awaitable[Shown | None]],
    of_serial: Callable[[str], Awaitable[Sequence[str]]],
) -> list[Shown]:
    """The devices that a label may mean: the one of this id, or those with this serial number."""
    if len(name) > MAX_NAME:
        return []
    if (shown := await device(name)) is not None:
        return [shown]
    found = [await device(one) for one in await of_serial(name)]
    return [one for one in found if one is not None]
