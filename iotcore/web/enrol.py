"""Where the code on a label leads: `/enrol/NAME`, the id or the serial number of a device."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from quart import Quart, Response, redirect

from iotcore.registry.rights import Right
from iotcore.web.console import Places
from iotcore.web.door import Door, Scope, visiting
from iotcore.web.live import Live
from iotcore.web.screen import Screen
from iotcore.web.view import Shown

SEVERAL, NOT_FOUND = 300, 404
MAX_NAME = 64  # characters of an id or a serial number


async def nobody(_: str) -> Sequence[str]:
    """No device has any serial number."""
    return ()


@dataclass(frozen=True, slots=True)
class EnrolPage:
    """The route. `of_serial` are the devices whose unit has a serial number, one of each model at most."""

    live: Live
    door: Door
    screen: Screen
    places: Places
    of_serial: Callable[[str], Awaitable[Sequence[str]]]

    def add(self, app: Quart) -> None:
        """Declare the route."""
        self.door.route(app, "/enrol/<name>", self.page, right=Right.SEE, of=Scope.FILTERED)

    async def page(self, name: str) -> Response:
        """The device's page; a choice where several have the serial number; or how a device is registered."""
        devices = self.places.seen(visiting(), await self._devices(name))
        if len(devices) == 1:
            return redirect(f"/devices/{quote(devices[0]['id'])}", 303)  # type: ignore[return-value]  # quart's own wrapper
        return self.screen.page("enrol.html", SEVERAL if devices else NOT_FOUND, name=name, devices=devices)

    async def _devices(self, name: str) -> list[Shown]:
        if len(name) > MAX_NAME or not name.isprintable():
            return []
        if (shown := await self.live.device(name)) is not None:
            return [shown]
        found = [await self.live.device(one) for one in await self.of_serial(name)]
        return [one for one in found if one is not None]
