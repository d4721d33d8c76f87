"""Disablements and walk tests: a page of all, forms on the pages of devices and premises, and the same as JSON.

GET    /outages                                    GET /api/v1/disablements   /api/v1/walks   /api/v1/walks/<id>
POST   /devices/<name>/disablements                the same under /api/v1; fields: minutes, reason, point
POST   /premises/<premises>/disablements           fields: minutes, reason, zone ("" all of it: takes a second person)
POST   /premises/<premises>/walks                  fields: minutes, zone
POST   /disablements/<id>/confirm | lift           POST /walks/<id>/end
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from quart import Quart, Response

from iotcore.errors import Refused
from iotcore.registry.directory import Directory, Target, Walk
from iotcore.registry.disablements import Disablements
from iotcore.registry.rights import Right
from iotcore.registry.walks import Walks
from iotcore.specs.model import DeviceSpec
from iotcore.web.door import Door, Place, Scope, visiting
from iotcore.web.given import done, given, number, refused
from iotcore.web.history import answer
from iotcore.web.out import Out, Shown
from iotcore.web.screen import Screen

MINUTE_MS = 60_000
Handler = Callable[..., Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class OutagePages:
    """`proved(walk)` are the alarms that a walk test has seen: device, point, received_ms. `two_persons`: the rule is on."""

    disablements: Disablements
    walks: Walks
    out: Out
    directory: Callable[[], Directory]
    specs: Mapping[str, DeviceSpec]
    proved: Callable[[Walk], Awaitable[Sequence[Mapping[str, Any]]]]
    two_persons: bool

    def add(self, app: Quart, door: Door, screen: Screen) -> None:
        """Declare the routes."""

        async def page() -> Response:
            shown = self.out.seen(visiting())
            return screen.page("outages.html", out=shown)

        async def banner() -> Response:
            return screen.page("out.html", out=self.out.seen(visiting()))

        def both(path: str, handler: Handler, right: Right, place: Place) -> None:
            for prefix in ("", "/api/v1"):
                door.route(app, prefix + path, handler, right=right, of=place, methods=["POST"])

        door.route(app, "/outages", page, right=Right.SEE, of=Scope.FILTERED)
        door.route(app, "/outages/banner", banner, right=Right.SEE, of=Scope.FILTERED)
        door.route(app, "/api/v1/disablements", self._disabled, right=Right.SEE, of=Scope.FILTERED)
        door.route(app, "/api/v1/walks", self._walking, right=Right.SEE, of=Scope.FILTERED)
        door.route(app, "/api/v1/walks/<walk>", self._walk, right=Right.SEE, of=self._walk_place)
        both("/devices/<name>/disablements", self._disable_device, Right.DISABLE, door.device("name"))
        both("/premises/<premises>/disablements", self._disable_premises, Right.DISABLE, self._premises_place)
        both("/premises/<premises>/walks", self._start, Right.COMMISSION, self._premises_place)
        both("/disablements/<one>/confirm", self._confirm, Right.DISABLE, self._disablement_place)
        both("/disablements/<one>/lift", self._lift, Right.DISABLE, self._disablement_place)
        both("/walks/<walk>/end", self._end, Right.COMMISSION, self._walk_place)

    async def _disabled(self) -> Response:
        return answer({"disablements": [one for one in self.out.seen(visiting()) if one["kind"] != "walk"]})

    async def _walking(self) -> Response:
        return answer({"walks": [one for one in self.out.seen(visiting()) if one["kind"] == "walk"]})

    async def _walk(self, walk: str) -> Response:
        try:
            return answer(await self.progress(await self.walks.get(walk)))
        except Refused as why:
            return refused(why)

    async def progress(self, walk: Walk) -> Shown:
        """What a walk test has proved so far, and which points nobody has seen yet."""
        seen = [dict(one) for one in await self.proved(walk)]
        known = {(one["device"], one["point"]) for one in seen}
        devices = {device for device, _ in known}
        missing = []
        for binding in self.directory().devices.values():
            if binding.domain != "fire" or not walk.holds(binding) or not binding.accepted:
                continue
            points = [name for name in binding.spec.points if name.endswith("_fire")]  # a panel's points prove themselves apart
            if points:
                missing += [f"{binding.device}/{name}" for name in points if (binding.device, name) not in known]
            elif binding.device not in devices:
                missing.append(binding.device)
        return {**asdict(walk), "seen": seen, "missing": missing}

    async def _disable_device(self, name: str) -> Response:
        fields = await given()
        point = str(fields.get("point", ""))
        target = Target("point", name, point) if point else Target("device", name)
        return await self._disable(target, fields, f"/devices/{name}")

    async def _disable_premises(self, premises: str) -> Response:
        fields = await given()
        zone = str(fields.get("zone", ""))
        back = f"/premises/{premises}"
        if not zone:
            return await self._disable(Target("premises", premises), fields, back)
        known = self.directory().zones.get(zone)
        if known is None or known.premises != premises:  # the right was asked for this premises
            return refused(Refused("unknown_zone", f"{premises!r} has no zone {zone!r}"))
        return await self._disable(Target("zone", zone), fields, back)

    async def _disable(self, target: Target, fields: dict[str, Any], back: str) -> Response:
        second = target.kind == "premises" and self.two_persons
        try:
            for_ms = int(number(fields, "minutes", 0.0) * MINUTE_MS)
            reason, by = str(fields.get("reason", "")), visiting().by
            made = await self.disablements.disable(target, for_ms, reason, by, self.specs, second_person=second)
        except Refused as why:
            return refused(why)
        return done(self.out.told(made), back, 201)

    async def _confirm(self, one: str) -> Response:
        try:
            made = await self.disablements.confirm(one, visiting().by, visiting().user)
        except Refused as why:
            return refused(why)
        return done(self.out.told(made), "/outages")

    async def _lift(self, one: str) -> Response:
        try:
            lifted = await self.disablements.lift(one, visiting().by)
        except Refused as why:
            return refused(why)
        return done({"lifted": lifted}, "/outages")

    async def _start(self, premises: str) -> Response:
        fields = await given()
        try:
            for_ms = int(number(fields, "minutes", 60.0) * MINUTE_MS)
            made = await self.walks.start(premises, str(fields.get("zone", "")), for_ms, visiting().by)
        except Refused as why:
            return refused(why)
        return done(self.out.told(made), f"/premises/{premises}", 201)

    async def _end(self, walk: str) -> Response:
        try:
            ended = await self.walks.end(walk, visiting().by)
        except Refused as why:
            return refused(why)
        return done({"ended": ended}, "/outages")

    def _premises_place(self, arguments: Mapping[str, Any]) -> Collection[str] | None:
        return place_of(self.directory(), arguments["premises"])

    def _disablement_place(self, arguments: Mapping[str, Any]) -> Collection[str] | None:
        directory = self.directory()
        one = directory.disablements.get(arguments["one"])
        return None if one is None else directory.areas_of(one.premises)

    def _walk_place(self, arguments: Mapping[str, Any]) -> Collection[str] | None:
        directory = self.directory()
        one = directory.walks.get(arguments["walk"])
        return None if one is None else directory.areas_of(one.premises)


def place_of(directory: Directory, premises: str) -> Collection[str] | None:
    """The areas that a premises lies in; None for an unknown one."""
    return directory.areas_of(premises) if premises in directory.premises else None
