"""The console: open incidents on top, every device below, all of it live; a page for each device; acknowledge and reset.

It reads through a View and writes only intents: it never touches the journal or MQTT. No account is asked for yet, so it listens
on loopback, answers only to the host names it is given (against DNS rebinding), and takes a POST only from its own pages.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from quart import Quart, Response, abort, redirect, request, url_for

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.registry.records import Certificate, IntentKind
from iotcore.specs.model import DeviceClass
from iotcore.telemetry.query import Query
from iotcore.web import checklist, commissioning
from iotcore.web.commissioning import Commissioner, Desk, Page
from iotcore.web.history import History
from iotcore.web.live import Event, Live
from iotcore.web.render import Pages, blind
from iotcore.web.view import View
from iotcore.web.words import LANGUAGES, Language

log = logging.getLogger(__name__)

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
LANGUAGE_COOKIE = "language"
YEAR_S = 31_536_000
MAX_BODY_BYTES = 16 * 1024
STALLED_S = 5.0  # a poll this old means that the page no longer follows
CLASSES: tuple[DeviceClass, ...] = ("fire_detector", "fire_panel", "air_station", "water_station", "traffic_signal", "gateway")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def create(
    *,
    view: View,
    intend: Callable[[IntentKind, str, str], Awaitable[int]],
    certificates: Callable[[str], Awaitable[Sequence[Certificate]]],
    clock: Clock,
    desk: Desk,
    language: Language = "vi",
    hosts: Sequence[str] = LOOPBACK_NAMES,
    processes: Callable[[], Mapping[str, Any]] | None = None,
    query: Query | None = None,
) -> Quart:
    """The console as an ASGI application.

    `intend(kind, incident, by)` writes an intent; `certificates(cn)` are those issued, newest first; `hosts` are the names it
    answers to; `desk` is what commissioning works with; `processes()` are those that beat now, or None where nobody counts them;
    `query` is the telemetry store.
    """
    app = Quart("iotcore.web")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    live = Live(view, clock, processes)
    pages = Pages()
    drawing = _Drawing(live, pages, clock, language)
    shared = Page(live.device, certificates, drawing.page, who, pages.both, clock)
    commissioner = commissioning.register(app, desk, shared)
    console = _Console(live, pages, drawing, intend, commissioner, clock, History(query, clock))
    app.while_serving(console.serving)
    app.before_request(_Guard(frozenset(name.lower() for name in hosts)).check)
    app.after_request(_add_headers)
    app.after_request(_count)
    app.add_url_rule("/", "index", console.index)
    app.add_url_rule("/events", "events", console.events)
    app.add_url_rule("/devices/<name>", "device", console.device)
    app.add_url_rule("/devices/<name>/details", "details", console.details)
    app.add_url_rule("/api/v1/devices/<name>/points/<point>/samples", "samples", console.samples)
    app.add_url_rule("/incidents/<incident>/acknowledge", "acknowledge", console.acknowledge, methods=["POST"])
    app.add_url_rule("/incidents/<incident>/reset", "reset", console.reset, methods=["POST"])
    app.add_url_rule("/language/<wanted>", "language", console.switch_language)
    app.add_url_rule("/healthz", "healthz", console.healthz)
    return app


def who() -> str:
    """Who asks, as the audit names him: no account is asked for yet."""
    return f"console@{request.remote_addr or '?'}"


class _Guard:
    """Refuses what does not come from our own pages."""

    def __init__(self, hosts: frozenset[str]) -> None:
        self._hosts = hosts

    async def check(self) -> None:
        """Abort a request that is not ours."""
        if (urlsplit(f"//{request.host}").hostname or "") not in self._hosts:
            abort(421, "unknown host name; add it to web.names")
        if request.method in {"GET", "HEAD", "OPTIONS"}:
            return
        origin = request.headers.get("Origin", "")
        if urlsplit(origin).netloc.lower() != request.host.lower() or not origin.startswith(("http://", "https://")):
            abort(403, "a request that changes something must come from our own page")


async def _add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers[name] = value
    if request.endpoint == "static":
        response.headers["Cache-Control"] = "no-cache"
    return response


async def _count(response: Response) -> Response:
    metrics.web_requests.labels(f"{response.status_code // 100}xx").inc()
    return response


@dataclass(frozen=True, slots=True)
class _Drawing:
    """Draws pages in the language of whoever asks."""

    _live: Live
    _pages: Pages
    _clock: Clock
    _language: Language

    def chosen(self) -> Language:
        """The language of this request."""
        wanted = request.cookies.get(LANGUAGE_COOKIE)
        return next((language for language in LANGUAGES if language == wanted), self._language)

    def page(self, template: str, **values: Any) -> Response:
        """A page, or a piece of one."""
        now_ms = self._clock.wall_ms()
        text = self._pages.draw(template, self.chosen(), cursor=self._live.cursor, now_ms=now_ms, path=request.path, **values)
        return Response(text, content_type="text/html; charset=utf-8")


@dataclass(frozen=True, slots=True)
class _Console:
    """The routes."""

    _live: Live
    _pages: Pages
    _drawing: _Drawing
    _intend: Callable[[IntentKind, str, str], Awaitable[int]]
    _commissioner: Commissioner
    _clock: Clock
    _history: History

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
        live = self._live
        devices = list(live.devices.values())
        return self._drawing.page(
            "index.html",
            incidents=list(live.incidents.values()),
            devices=devices,
            counts={name: n for name in CLASSES if (n := sum(d["class"] == name for d in devices))},
            status=live.status["status"],
        )

    async def device(self, name: str) -> Response:
        """One device, for whoever stands in front of it."""
        details = await self._details(name)
        return self._drawing.page("device.html", **details, **await self._history.charts(details["device"]))

    async def details(self, name: str) -> Response:
        """What changes on a device's page."""
        return self._drawing.page("device_details.html", **await self._details(name))

    async def samples(self, name: str, point: str) -> Response:
        """The history of one point, for programs."""
        return await self._history.samples(await self._live.device(name), point)

    async def _details(self, name: str) -> dict[str, Any]:
        device = await self._live.device(name)
        if device is None:
            abort(404, "no such device")
        now_ms = self._clock.wall_ms()
        known = await self._commissioner.known(device)
        return {
            "device": device,
            "certificate": checklist.current(known.certificates, now_ms),
            "steps": checklist.steps(device, known, now_ms),
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
            intent = await self._intend(kind, incident, who())
        except StoreError:
            abort(503, "the registry does not answer; try again, and tell the fire service by telephone")
        if request.accept_mimetypes.best == "application/json":
            return Response(json.dumps({"intent": intent}), 202, content_type="application/json")
        return redirect(url_for("index"), 303)  # type: ignore[return-value]  # quart's own wrapper of a response

    async def switch_language(self, wanted: str) -> Response:
        """Remember the language in a cookie."""
        if wanted not in LANGUAGES:
            abort(404, "no such language")
        target = request.args.get("to", "/")
        response = Response("", 303, {"Location": target if target.startswith("/") and target[1:2] not in {"/", "\\"} else "/"})
        response.set_cookie(LANGUAGE_COOKIE, wanted, max_age=YEAR_S, httponly=True, samesite="Strict")
        return response

    async def events(self) -> Response:
        """The live stream: what was missed since `after` or Last-Event-ID, or everything; then every change; beats in between."""
        taken = self._live.subscribe(request.headers.get("Last-Event-ID") or request.args.get("after", ""))
        if taken is None:
            abort(503, "too many pages are open")
        subscriber, missed = taken
        language = self._drawing.chosen()

        async def stream() -> AsyncIterator[bytes]:
            try:
                yield b"retry: 1000\n\n"
                if missed is None:
                    yield self._everything(language)
                for old in missed or ():
                    yield self._encoded(old, language)
                while (event := await subscriber.next()) is not None:
                    yield self._encoded(event, language)
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

    def _everything(self, language: Language) -> bytes:
        live = self._live
        states = (("incidents", live.incidents), ("devices", live.devices), ("status", live.status))
        body = {kind: [self._piece(kind, item, language) for item in items.values()] for kind, items in states}
        return _frame("everything", live.cursor, {**body, "now_ms": self._clock.wall_ms()})

    def _encoded(self, event: Event, language: Language) -> bytes:
        if language not in event.drawn:
            pieces = [self._piece(event.kind, item, language) for item in event.changed]
            body = {"set": pieces, "gone": event.gone, "now_ms": self._clock.wall_ms()}
            event.drawn[language] = _frame(event.kind, "" if event.kind == "beat" else f"{self._live.epoch}-{event.number}", body)
        return event.drawn[language]

    def _piece(self, kind: str, item: dict[str, Any], language: Language) -> dict[str, Any]:
        draw = {"incidents": self._pages.incident, "devices": self._pages.device, "status": self._pages.status}[kind]
        piece = {"id": item["id"], "html": draw(item, language)}
        return {**piece, "blind": blind(item)} if kind == "status" else piece


def _tell_of_its_end(following: asyncio.Task[None]) -> None:
    """Without this task every page goes stale, says so, and /healthz fails: say in the log why."""
    if not following.cancelled() and (error := following.exception()) is not None:
        log.critical("the pages are no longer brought up to date", exc_info=error)


def _frame(kind: str, cursor: str, body: dict[str, Any]) -> bytes:
    """One server-sent event (HTML Living Standard, 9.2); JSON holds no line feed."""
    head = f"id: {cursor}\n" if cursor else ""
    return f"{head}event: {kind}\ndata: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()
