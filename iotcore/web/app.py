"""The console: open incidents on top, every device below, all of it live; a page for each device; acknowledge and reset.

It reads through a View and writes only intents: it never touches the journal or MQTT. The door asks everybody who they are
(`door`), answers only to the host names it is given (against DNS rebinding), and takes a POST only from its own pages. Everybody
sees what stands in their areas, on pages and in the live stream.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from quart import Quart, Response, request
from werkzeug.exceptions import HTTPException, ServiceUnavailable

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.registry.accounts import Accounts
from iotcore.registry.directory import Directory
from iotcore.registry.records import Certificate
from iotcore.settings import Oidc, People
from iotcore.telemetry.query import Query
from iotcore.web import cookies
from iotcore.web.account import Account
from iotcore.web.approvals import ApprovalPage
from iotcore.web.commissioning import Commissioner, Desk, Surroundings
from iotcore.web.console import UNAVAILABLE, ConsolePages, Intend, Places
from iotcore.web.denials import Denials
from iotcore.web.door import Door
from iotcore.web.history import History
from iotcore.web.live import Live
from iotcore.web.oidc import Provider
from iotcore.web.out import Out
from iotcore.web.passwords import Passwords
from iotcore.web.problem import problem, wants_problem
from iotcore.web.records import Records
from iotcore.web.render import Pages
from iotcore.web.screen import Screen
from iotcore.web.sign_in import SignIn
from iotcore.web.sign_in_oidc import SignInOidc
from iotcore.web.throttle import Throttle
from iotcore.web.view import View
from iotcore.web.words import Language

LOOPBACK_NAMES = cookies.LOOPBACK_NAMES
YEAR_S = 31_536_000
DOWN = "the registry or the journal does not answer; try again, and tell the fire service by telephone"
MAX_BODY_BYTES = 16 * 1024
DEFAULTS, NO_PROVIDER = People(), Oidc()
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

log = logging.getLogger(__name__)


class Part(Protocol):
    """What adds pages of its own."""

    def add(self, app: Quart, door: Door, screen: Screen) -> None:
        """Declare the routes, each with its right."""


def create(
    *,
    view: View,
    directory: Callable[[], Directory],
    accounts: Accounts,
    intend: Intend,
    certificates: Callable[[str], Awaitable[Sequence[Certificate]]],
    clock: Clock,
    desk: Desk,
    people: People = DEFAULTS,
    oidc: Oidc = NO_PROVIDER,
    throttle: Throttle | None = None,
    first_used: Callable[[], None] = lambda: None,
    language: Language = "vi",
    hosts: Sequence[str] = LOOPBACK_NAMES,
    processes: Callable[[], Mapping[str, Any]] | None = None,
    query: Query | None = None,
    records: Records | None = None,
    parts: Sequence[Part] = (),
    audit: Callable[[str, str, str, str], Awaitable[None]] | None = None,
) -> Quart:
    """The console as an ASGI application.

    `directory()` says who is where; `certificates(cn)` are those issued, newest first; `desk` is for commissioning; `throttle`
    brakes guessing; `first_used()` is called when the first admin was made; `hosts` are the names it answers to; `processes()`
    are those that beat now, or None where nobody counts them; `query` is the telemetry store; `records` is what the registry
    knows of a device besides; `parts` have pages of their own; `audit` takes what somebody was denied.
    """
    app = _bare()
    live = Live(view, clock, processes)
    screen = Screen(Pages(), clock, language, lambda: live.cursor)
    places = Places(directory, live)
    door = Door(
        *(accounts.sessions, accounts.tokens, screen, clock),
        hosts=hosts,
        device_areas=places.of_device,
        incident_areas=places.of_incident,
        denied=Denials(audit, clock).tell if audit is not None else None,
    )
    commissioner = Commissioner(app, desk, Surroundings(live.device, certificates, door, screen, clock))
    console = ConsolePages(
        live, screen, door, places, intend, commissioner.known, clock, History(query, clock), records, Out(directory, clock)
    )
    app.while_serving(console.serving)
    _on_each_request(app, door)
    console.add(app)
    if records is not None:
        records.add(app, door)
    _add_people(app, accounts, door, screen, clock, people, oidc, throttle, first_used)
    for part in parts:
        part.add(app, door, screen)
    app.extensions["iotcore.door"] = door
    return app


def _add_people(  # noqa: PLR0917 - as `create` has them
    app: Quart,
    accounts: Accounts,
    door: Door,
    screen: Screen,
    clock: Clock,
    people: People,
    oidc: Oidc,
    throttle: Throttle | None,
    first_used: Callable[[], None],
) -> None:
    """The pages by which people come in, and what is their own."""
    brakes, hasher = throttle or Throttle(clock.monotonic_s), Passwords()
    SignIn(
        *(accounts, door, screen, brakes, hasher, people.session_s, people.passwords),
        provider=oidc.title if oidc.issuer else "",
        first_used=first_used,
    ).add(app)
    if oidc.issuer:
        SignInOidc(oidc, Provider(oidc, clock), accounts, door, screen, people.session_s, people.passwords).add(app)
    ApprovalPage(accounts, door, screen).add(app)
    Account(accounts, door, screen, brakes, hasher, clock, people.passwords).add(app)


def _bare() -> Quart:
    app = Quart("iotcore.web")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    return app


def _on_each_request(app: Quart, door: Door) -> None:
    app.before_request(door.check)
    app.after_request(_add_headers)
    app.after_request(_count)
    app.register_error_handler(HTTPException, _problem_of)
    app.register_error_handler(StoreError, _store_down)


async def _add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers[name] = value
    if request.endpoint == "static":
        response.headers["Cache-Control"] = "no-cache"
    if request.scheme == "https":
        response.headers["Strict-Transport-Security"] = f"max-age={YEAR_S}"
    return response


async def _count(response: Response) -> Response:
    metrics.web_requests.labels(f"{response.status_code // 100}xx").inc()
    return response


async def _problem_of(error: HTTPException) -> Any:
    """Programs get a problem document, people the plain page of an error."""
    if not wants_problem():
        return error
    return problem(error.code or 500, error.name.lower().replace(" ", "_"), error.description or error.name)


async def _store_down(error: StoreError) -> Any:
    log.warning("a page is refused: %s", error)
    return problem(UNAVAILABLE, "store_down", DOWN) if wants_problem() else ServiceUnavailable(DOWN)
