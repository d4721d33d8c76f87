"""The door of all pages: who comes, and whether they may. A route that does not say its right is closed to everybody.

    door.route(app, "/devices/<name>", handler, right=Right.SEE, of=door.device("name"))

`of` says what the right is asked for: `Scope.EVERYTHING` (the right must know no bounds), `Scope.FILTERED` (held anywhere; the
handler shows only what its visitor may see), or where the one thing stands that the address names. What a visitor may not see is
not found: a refusal would tell that it exists.

Somebody comes with a session's cookie, or with an API token (`Authorization: Bearer …`), whose programs send no cookies and need
no origin. When the registry does not answer, who was known shortly before stays in: a page of fires does not go dark for it.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import quote, urlsplit

from quart import Quart, Response, abort, g, redirect, request
from quart import typing as quart_typing

from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.registry.api_tokens import ApiTokens
from iotcore.registry.rights import Right, Visitor
from iotcore.registry.sessions import Sessions, hashed
from iotcore.web import cookies
from iotcore.web.problem import problem, wants_problem
from iotcore.web.screen import Screen

REMEMBERED = 1_000  # visitors known while the registry does not answer
REMEMBERED_S = 900.0
BEARER = "Bearer "
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 401, 403, 404

Areas = Collection[str] | None  # None: no such thing
Place = Callable[[Mapping[str, Any]], Areas | Awaitable[Areas]]  # arguments of the address → the areas, at once or looked up
log = logging.getLogger(__name__)


class Scope(Enum):
    """What a right is asked for where an address names no one thing."""

    EVERYTHING = "everything"
    FILTERED = "filtered"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a route asks for. `right` None: any visitor, for what is their own."""

    right: Right | None
    of: Scope | Place


class Door:
    """Declares routes and guards them."""

    def __init__(
        self,
        sessions: Sessions,
        tokens: ApiTokens,
        screen: Screen,
        clock: Clock,
        *,
        hosts: Collection[str],
        device_areas: Callable[[str], Collection[str] | None],
        incident_areas: Callable[[str], Collection[str] | None],
        denied: Callable[[Visitor, str, str, str], Awaitable[None]] | None = None,
    ) -> None:
        self._sessions = sessions
        self._tokens = tokens
        self._screen = screen
        self._clock = clock
        self._hosts = frozenset(name.lower() for name in hosts)
        self._device_areas = device_areas
        self._incident_areas = incident_areas
        self._denied = denied
        self._recent: OrderedDict[str, tuple[Visitor, float]] = OrderedDict()
        self.rules: dict[str, Rule] = {}
        self.open_to_all: set[str] = {"static"}
        self._proven: set[str] = set()  # their requests carry a proof of their own

    def route(
        self,
        app: Quart,
        path: str,
        handler: Callable[..., Awaitable[Any]],
        *,
        right: Right | None,
        of: Scope | Place = Scope.EVERYTHING,
        methods: Sequence[str] = ("GET",),
    ) -> None:
        """A page or an API for whoever holds `right` for `of`; None: for every visitor."""
        name = f"{' '.join(methods)} {path}".replace(".", "-")
        self.rules[name] = Rule(right, of)
        app.add_url_rule(path, name, handler, methods=list(methods))

    def let_in(self, app: Quart, path: str, handler: Callable[..., Awaitable[Any]], *, methods: Sequence[str] = ("GET",)) -> None:
        """A page for everybody, also without a session: it may show nothing of the city."""
        name = f"{' '.join(methods)} {path}".replace(".", "-")
        self.open_to_all.add(name)
        app.add_url_rule(path, name, handler, methods=list(methods))

    def signed(self, app: Quart, path: str, handler: Callable[..., Awaitable[Any]], *, methods: Sequence[str]) -> None:
        """For programs that prove with each request who they are: no cookie counts, so it need not come from our own page."""
        self.let_in(app, path, handler, methods=methods)
        self._proven.add(f"{' '.join(methods)} {path}".replace(".", "-"))

    def device(self, argument: str) -> Place:
        """Where the device stands that this argument of the address names."""
        return lambda arguments: self._device_areas(arguments[argument])

    def incident(self, argument: str) -> Place:
        """Where the incident is that this argument of the address names."""
        return lambda arguments: self._incident_areas(arguments[argument])

    async def check(self) -> quart_typing.ResponseReturnValue | None:
        """Before each request: let it through, or answer in its handler's place; StoreError when nobody can be told apart."""
        if (urlsplit(f"//{request.host}").hostname or "") not in self._hosts:
            abort(421, "unknown host name; add it to web.names")
        endpoint = request.url_rule.endpoint if request.url_rule is not None else ""
        if request.method not in SAFE and not bearer() and endpoint not in self._proven:
            _own_page()
        if request.url_rule is None:
            return None  # not found, or not by this method
        if endpoint in self.open_to_all:
            g.visitor = None
            return None
        rule = self.rules.get(endpoint)
        if rule is None:
            return self.forbidden("no_right_declared")
        g.visitor = await self.visitor()
        if g.visitor is None:
            return self._unknown()
        answer = await self._judge(g.visitor, rule)
        if answer is not None and rule.right is not None and request.method not in SAFE and self._denied is not None:
            subject = next((str(value) for value in (request.view_args or {}).values()), request.path)
            why = "not in their area" if answer.status_code == NOT_FOUND else f"without the right {rule.right.value!r}"
            await self._denied(g.visitor, endpoint, subject, why)
        return answer

    async def visitor(self) -> Visitor | None:
        """Who makes the request at hand; raises StoreError when that cannot be told."""
        return await self.asker()()

    def asker(self) -> Callable[[], Awaitable[Visitor | None]]:
        """To ask again later who makes the request at hand: whether they still are who they were."""
        token, secret = bearer(), cookies.secret(cookies.SESSION)

        async def ask() -> Visitor | None:
            if not token and not secret:
                return None
            try:
                found = await (self._tokens.visitor(token) if token else self._sessions.visitor(secret))
            except StoreError:
                remembered = self._remembered(token or secret)
                if remembered is None:
                    raise
                return remembered
            self._remember(token or secret, found)
            return found

        return ask

    def forbidden(self, reason: str) -> Response:
        """403, as a page or as a problem document."""
        if wants_problem():
            return problem(FORBIDDEN, "forbidden", f"this takes the right {reason!r}; ask an admin of this installation")
        return self._screen.page("forbidden.html", FORBIDDEN, reason=reason)

    async def _judge(self, visitor: Visitor, rule: Rule) -> Response | None:
        if rule.right is None:
            return None
        if not visitor.may_somewhere(rule.right):
            return self.forbidden(rule.right.value)
        if rule.of is Scope.FILTERED:
            return None
        if isinstance(rule.of, Scope):
            return None if visitor.may(rule.right) else self.forbidden(rule.right.value)
        found = rule.of(request.view_args or {})
        place = await found if isinstance(found, Awaitable) else found
        if place is None or not visitor.may(Right.SEE, place):
            return self._not_found()
        return None if visitor.may(rule.right, place) else self.forbidden(rule.right.value)

    @staticmethod
    def _not_found() -> Response:
        if not wants_problem():
            return Response("no such thing\n", NOT_FOUND, content_type="text/plain; charset=utf-8")
        return problem(NOT_FOUND, "not_found", "there is no such thing, or it is not in your area")

    @staticmethod
    def _unknown() -> quart_typing.ResponseReturnValue:
        if wants_problem() or request.method not in SAFE:
            answer = problem(UNAUTHORIZED, "sign_in", "sign in, or send an API token: Authorization: Bearer iotcore_…")
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        asked = request.full_path.rstrip("?")
        return redirect("/sign-in" if asked == "/" else f"/sign-in?to={quote(asked)}", 303)

    def _remember(self, secret: str, visitor: Visitor | None) -> None:
        key = hashed(secret)
        self._recent.pop(key, None)
        if visitor is not None:
            self._recent[key] = (visitor, self._clock.monotonic_s())
            if len(self._recent) > REMEMBERED:
                self._recent.popitem(last=False)

    def _remembered(self, secret: str) -> Visitor | None:
        visitor, at_s = self._recent.get(hashed(secret), (None, 0.0))
        return visitor if self._clock.monotonic_s() - at_s < REMEMBERED_S else None


def visiting() -> Visitor:
    """Who makes the request at hand; only behind a route with a right."""
    visitor: Visitor = g.visitor
    return visitor


def bearer() -> str:
    """The API token of the request at hand, or ""."""
    text = request.headers.get("Authorization", "")
    return text[len(BEARER) :].strip() if text.startswith(BEARER) else ""


def _own_page() -> None:
    """Abort a request that would change something and does not come from our own page."""
    origin = request.headers.get("Origin", "")
    if urlsplit(origin).netloc.lower() != request.host.lower() or not origin.startswith(("http://", "https://")):
        abort(403, "a request that changes something must come from our own page")
