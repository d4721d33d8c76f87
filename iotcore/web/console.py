"""The pages of the console, and its live stream: each visitor sees what stands in their areas."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from quart import Quart, Response, abort, redirect, request

from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.registry.city import FIRE_CLASSES
from iotcore.registry.directory import Directory
from iotcore.registry.records import IntentKind
from iotcore.registry.rights import Right, Visitor
from iotcore.specs.model import DeviceClass
from iotcore.web import checklist, cookies
from iotcore.web.checklist import Known
from iotcore.web.door import Door, Scope, visiting
from iotcore.web.history import History
from iotcore.web.live import Event, Live
from iotcore.web.out import Out
from iotcore.web.records import Records
from iotcore.web.render import blind, dark
from iotcore.web.screen import LANGUAGE_COOKIE, Screen
from iotcore.web.view import Shown
from iotcore.web.words import LANGUAGES, Language

log = logging.getLogger(__name__)

YEAR_S = 31_536_000
CLASSES: tuple[DeviceClass, ...] = ("fire_detector", "fire_panel", "air_station", "water_station", "traffic_signal", "gateway")
POINTS_LISTED = 200  # a panel has 20,000: those are for the command line
STALLED_S = 5.0  # a poll this old means that the page no longer follows
ASK_AGAIN_S = 5.0  # a live stream ends so soon after its session, or when its visitor may see something else than before
UNAVAILABLE = 503
TELEPHONE = "the registry does not answer; try again, and tell the fire service by telephone"


class Intend(Protocol):
    """Writes an intent: what kind, of which incident, by whom, from which address."""

    def __call__(self, kind: IntentKind, key: str, by: str, address: str) -> Awaitable[int]:
        """The intent's id."""


@dataclass(frozen=True, slots=True)
class Places:
    """In which areas things stand."""

    _directory: Callable[[], Directory]
    _live: Live

    def of_device(self, name: str) -> Collection[str] | None:
        """None for an unknown device."""
        directory = self._directory()
        binding = directory.devices.get(name)
        return None if binding is None else directory.areas_of(binding.premises)

    def points(self, name: str) -> list[str]:
        """The points that a device has, as many as a page lists."""
        binding = self._directory().devices.get(name)
        return list(binding.spec.points)[:POINTS_LISTED] if binding is not None else []

    def of_incident(self, incident: str) -> Collection[str] | None:
        """None for one that is not on the page."""
        known = self._live.incidents.get(incident)
        return None if known is None else self._directory().areas_of(known["premises"])

    def seen(self, visitor: Visitor, items: Collection[Shown]) -> list[Shown]:
        """Those of incidents or devices that a visitor may see; the state of the platform itself is for everybody."""
        if visitor.may(Right.SEE):
            return list(items)
        directory, known = self._directory(), {}
        for premises in {item["premises"] for item in items if "premises" in item}:
            known[premises] = visitor.may(Right.SEE, directory.areas_of(premises))
        return [item for item in items if "premises" not in item or known[item["premises"]]]


@dataclass(frozen=True, slots=True)
class ConsolePages:
    """The routes."""

    _live: Live
    _screen: Screen
    _door: Door
    _places: Places
    _intend: Intend
    _facts: Callable[[Shown], Awaitable[Known]]
    _clock: Clock
    _history: History
    _records: Records | None
    _out: Out

    def add(self, app: Quart) -> None:
        """Declare the routes."""
        door = self._door
        device, incident = door.device("name"), door.incident("incident")
        door.route(app, "/", self.index, right=Right.SEE, of=Scope.FILTERED)
        door.route(app, "/events", self.events, right=Right.SEE, of=Scope.FILTERED)
        door.route(app, "/devices/<name>", self.device, right=Right.SEE, of=device)
        door.route(app, "/devices/<name>/details", self.details, right=Right.SEE, of=device)
        samples = "/api/v1/devices/<name>/points/<point>/samples"
        door.route(app, samples, self.samples, right=Right.SEE, of=device)
        taking = "/incidents/<incident>/acknowledge"
        door.route(app, taking, self.acknowledge, right=Right.ACKNOWLEDGE, of=incident, methods=["POST"])
        door.route(app, "/incidents/<incident>/reset", self.reset, right=Right.RESET, of=incident, methods=["POST"])
        door.let_in(app, "/language/<wanted>", self.switch_language)
        door.let_in(app, "/healthz", self.healthz)

    async def serving(self) -> AsyncGenerator[None, None]:
        """While the application serves, one task keeps it up to date."""
        await self._live.poll()
        following = asyncio.create_task(self._live.run())
        following.add_done_callback(_tell_of_its_end)
        yield
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        self._live.close()

    async def index(self) -> Response:
        """Everything on one page."""
        live, visitor = self._live, visiting()
        devices = self._places.seen(visitor, live.devices.values())
        return self._screen.page(
            "index.html",
            incidents=self._places.seen(visitor, live.incidents.values()),
            devices=devices,
            counts={name: n for name in CLASSES if (n := sum(d["class"] == name for d in devices))},
            status=live.status["status"],
            out=self._out.seen(visitor),
        )

    async def device(self, name: str) -> Response:
        """One device, for whoever stands in front of it."""
        details = await self._details(name)
        fire = details["device"]["class"] in FIRE_CLASSES
        disable: dict[str, Any] = {
            "disable_at": f"/devices/{name}/disablements" if fire else "",
            "disable_points": self._places.points(name),
        }
        return self._screen.page("device.html", **details, **disable, **await self._history.charts(details["device"]))

    async def details(self, name: str) -> Response:
        """What changes on a device's page."""
        return self._screen.page("device_details.html", **await self._details(name))

    async def samples(self, name: str, point: str) -> Response:
        """The history of one point, for programs."""
        return await self._history.samples(await self._live.device(name), point)

    async def _details(self, name: str) -> dict[str, Any]:
        device = await self._live.device(name)
        if device is None:
            abort(404, "no such device")
        now_ms = self._clock.wall_ms()
        facts = await self._facts(device)
        return {
            "device": device,
            "out": self._out.of_device(name),
            "certificate": checklist.current(facts.certificates, now_ms),
            "steps": checklist.steps(device, facts, now_ms),
            "known": await self._records.of(name) if self._records is not None else None,
            "groups": self._records.groups(name) if self._records is not None else (),
        }

    async def acknowledge(self, incident: str) -> Response:
        """A person takes the incident."""
        return await self._ask("acknowledge", incident)

    async def reset(self, incident: str) -> Response:
        """A person ends the incident; only after somebody took it."""
        known = self._live.incidents.get(incident)
        if known is not None and known["acknowledged_ms"] is None:
            abort(409, "acknowledge it first")
        return await self._ask("reset", incident)

    async def _ask(self, kind: IntentKind, incident: str) -> Response:
        if incident not in self._live.incidents:
            abort(404, "no such incident")
        try:
            intent = await self._intend(kind, incident, visiting().by, request.remote_addr or "?")
        except StoreError:
            abort(UNAVAILABLE, TELEPHONE)
        if request.accept_mimetypes.best == "application/json":
            return Response(json.dumps({"intent": intent}), 202, content_type="application/json")
        back = f"/incidents/{incident}" if request.args.get("to") == "case" else "/"
        return redirect(back, 303)  # type: ignore[return-value]  # quart's own wrapper of a response

    async def switch_language(self, wanted: str) -> Response:
        """Remember the language in a cookie; also for whoever is not signed in."""
        if wanted not in LANGUAGES:
            abort(404, "no such language")
        response = Response("", 303, {"Location": cookies.local(request.args.get("to", "/"))})
        response.set_cookie(LANGUAGE_COOKIE, wanted, max_age=YEAR_S, httponly=True, samesite="Strict")
        return response

    async def events(self) -> Response:
        """The live stream: what was missed since `after` or Last-Event-ID, or everything; then every change; beats in between."""
        taken = self._live.subscribe(request.headers.get("Last-Event-ID") or request.args.get("after", ""))
        if taken is None:
            abort(503, "too many pages are open")
        subscriber, missed = taken
        language, visitor, again = self._screen.language(), visiting(), self._door.asker()

        async def stream() -> AsyncIterator[bytes]:
            asked_s = self._clock.monotonic_s()
            try:
                yield b"retry: 1000\n\n"
                if missed is None:
                    yield self._everything(language, visitor)
                for old in missed or ():
                    yield self._encoded(old, language, visitor)
                while (event := await subscriber.next()) is not None:
                    if self._clock.monotonic_s() - asked_s >= ASK_AGAIN_S:
                        asked_s = self._clock.monotonic_s()
                        if not await _still(again, visitor):
                            return
                    yield self._encoded(event, language, visitor)
            finally:
                self._live.unsubscribe(subscriber)

        response = Response(stream(), content_type="text/event-stream")
        response.timeout = None
        response.headers["X-Accel-Buffering"] = "no"
        return response

    async def healthz(self) -> Response:
        """200 while the page follows the fire lane's journal, else 503; and how the stream does."""
        readable = self._live.status.get("status", {}).get("readable", {})
        follows = self._clock.monotonic_s() - self._live.polled_s < STALLED_S
        healthy = follows and readable.get("journal", False)
        said = {"follows": follows, "readable": readable, "watching": self._live.watching, "dropped": self._live.dropped}
        return Response(json.dumps(said), 200 if healthy else 503, content_type="application/json")

    def _everything(self, language: Language, visitor: Visitor) -> bytes:
        live, seen = self._live, self._places.seen
        states = (("incidents", live.incidents), ("devices", live.devices), ("status", live.status))
        body = {kind: [self._piece(kind, one, language) for one in seen(visitor, items.values())] for kind, items in states}
        return _frame("everything", live.cursor, {**body, "now_ms": self._clock.wall_ms()})

    def _encoded(self, event: Event, language: Language, visitor: Visitor) -> bytes:
        key = (language, visitor.scope)
        if key not in event.drawn:
            pieces = [self._piece(event.kind, item, language) for item in self._places.seen(visitor, event.changed)]
            gone = [item["id"] for item in self._places.seen(visitor, event.left)]
            body = {"set": pieces, "gone": gone, "now_ms": self._clock.wall_ms()}
            event.drawn[key] = _frame(event.kind, "" if event.kind == "beat" else f"{self._live.epoch}-{event.number}", body)
        return event.drawn[key]

    def _piece(self, kind: str, item: dict[str, Any], language: Language) -> dict[str, Any]:
        pages = self._screen.pages
        draw = {"incidents": pages.incident, "devices": pages.device, "status": pages.status}[kind]
        piece = {"id": item["id"], "html": draw(item, language)}
        more = {"blind": blind(item), "dark": dark(item), "stalled": item["stalled"]} if kind == "status" else {}
        return {**piece, **more}


async def _still(again: Callable[[], Awaitable[Visitor | None]], visitor: Visitor) -> bool:
    """Whether whoever opened a stream is still signed in, and may see what they could; a registry that is down is asked later."""
    try:
        found = await again()
    except StoreError:
        return False
    return found is not None and found.scope == visitor.scope


def _tell_of_its_end(following: asyncio.Task[None]) -> None:
    """Without this task every page goes stale, says so, and /healthz fails: say in the log why."""
    if not following.cancelled() and (error := following.exception()) is not None:
        log.critical("the pages are no longer brought up to date", exc_info=error)


def _frame(kind: str, cursor: str, body: dict[str, Any]) -> bytes:
    """One server-sent event (HTML Living Standard, 9.2); JSON holds no line feed."""
    head = f"id: {cursor}\n" if cursor else ""
    return f"{head}event: {kind}\ndata: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()
