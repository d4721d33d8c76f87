"""Where the code on a label leads: `/enrol/NAME`, the id or the serial number of a device."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from quart import Quart, Response, redirect

from iotcore.registry.directory import Binding, Directory
from iotcore.registry.rights import Right
from iotcore.web.door import Door, Scope, visiting
from iotcore.web.screen import Screen

SEVERAL, NOT_FOUND = 300, 404
MAX_NAME = 64  # characters of an id or a serial number


@dataclass(frozen=True, slots=True)
class EnrolPages:
    """The route. `of_serial` are the devices whose unit has a serial number, one of each model at most."""

    directory: Callable[[], Directory]
    of_serial: Callable[[str], Awaitable[Sequence[str]]]

    def add(self, app: Quart, door: Door, screen: Screen) -> None:
        """Declare the route."""

        async def page(name: str) -> Response:
            """The device's page; a choice where several have the serial number; or how a device is registered."""
            devices = await self._seen(name)
            if len(devices) == 1:
                return redirect(f"/devices/{quote(devices[0].device)}", 303)  # type: ignore[return-value]  # quart's own wrapper
            return screen.page("enrol.html", SEVERAL if devices else NOT_FOUND, name=name, devices=devices)

        door.route(app, "/enrol/<name>", page, right=Right.SEE, of=Scope.FILTERED)

    async def _seen(self, name: str) -> list[Binding]:
        """The devices that the label may mean, as far as whoever asks may see them."""
        if len(name) > MAX_NAME or not name.isprintable():
            return []
        directory = self.directory()
        names = [name] if name in directory.devices else await self.of_serial(name)
        found = [directory.devices[one] for one in names if one in directory.devices]
        return [one for one in found if visiting().may(Right.SEE, directory.areas_of(one.premises))]
