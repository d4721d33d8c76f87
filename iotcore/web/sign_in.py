"""Signing in and out: with a password, with a link that works once, and the first admin of an installation.

What is wrong with a name or a password is never told apart, and takes the same work: neither says whether there is such a user.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from quart import Quart, Response, g, redirect, request

from iotcore import metrics
from iotcore.errors import Refused
from iotcore.registry import passwords
from iotcore.registry.accounts import Accounts
from iotcore.web import cookies
from iotcore.web.door import Door
from iotcore.web.passwords import Busy, Passwords
from iotcore.web.screen import Screen
from iotcore.web.throttle import Kind, Throttle, network

UNAUTHORIZED, FORBIDDEN, GONE, UNPROCESSABLE, TOO_MANY, UNAVAILABLE = 401, 403, 410, 422, 429, 503
BUSY_S = 2


@dataclass(frozen=True, slots=True)
class SignIn:
    """The pages of whoever is not signed in. `first_used` is called when the first admin was made."""

    accounts: Accounts
    door: Door
    screen: Screen
    throttle: Throttle
    hasher: Passwords
    lasts_s: int
    with_passwords: bool
    provider: str  # title of the OpenID provider; "" without one
    first_used: Callable[[], None]

    def add(self, app: Quart) -> None:
        """Declare the routes."""
        self.door.let_in(app, "/sign-in", self.form)
        self.door.let_in(app, "/sign-in", self.check, methods=["POST"])
        self.door.let_in(app, "/sign-out", self.leave, methods=["POST"])
        for way, form, use in (("link", self.link, self.use_link), ("first", self.first, self.use_first)):
            self.door.let_in(app, f"/{way}/<secret>", form)
            self.door.let_in(app, f"/{way}/<secret>", use, methods=["POST"])

    async def form(self) -> Response:
        """The page that asks who you are."""
        return self._asking(cookies.local(request.args.get("to", "/")))

    async def check(self) -> Response:
        """A name and a password."""
        form = await request.form
        name, password = form.get("name", "").strip().lower(), form.get("password", "")
        to = cookies.local(form.get("to", "/"))
        if not cookies.is_safe_line():
            return self._asking(to, FORBIDDEN, "needs_tls", name)
        if not self.with_passwords:
            return self._asking(to, FORBIDDEN, "no_passwords")
        where = cookies.origin()
        taken, wait_s = await self._take(name, where.address, where.browser)
        if wait_s:
            return self._wait(to, name, wait_s)
        try:
            stored = await self.accounts.people.password_of(name)
            right = await self.hasher.verify(stored, password)
        except Busy:
            self._give_back(taken)
            return self._busy(to, name)
        if not right:
            metrics.sign_ins.labels("password", "wrong").inc()
            await self.accounts.sessions.refuse(name, where.address, "wrong")
            return self._asking(to, UNAUTHORIZED, "wrong", name)
        self._give_back(taken)
        if passwords.is_old(stored):
            await self.accounts.people.refresh_hash(name, stored, await self.hasher.hashed(password))
        await self._leave()
        opened = await self.accounts.sessions.open(name, "password", where)
        metrics.sign_ins.labels("password", "in").inc()
        return cookies.signed_in(_go(to), opened, self.lasts_s)

    async def leave(self) -> Response:
        """Sign out: the session ends here, not only in the browser."""
        await self._leave()
        response = _go("/sign-in")
        cookies.drop(response, cookies.SESSION)
        return response

    async def link(self, secret: str) -> Response:
        """What a one-time link does; a look at it uses nothing up."""
        user = await self.accounts.sessions.link(secret)
        return self.screen.page("link.html", user=user, wrong="") if user else self._bad_link()

    async def use_link(self, secret: str) -> Response:
        """Sign in by a one-time link."""
        if not cookies.is_safe_line():
            return self._asking("/", FORBIDDEN, "needs_tls")
        try:
            opened = await self.accounts.sessions.use_link(secret, cookies.origin())
        except Refused:
            return self._bad_link()
        await self._leave()
        metrics.sign_ins.labels("link", "in").inc()
        return cookies.signed_in(_go("/"), opened, self.lasts_s)

    async def first(self, secret: str) -> Response:
        """Where the first admin chooses a name and a password."""
        if await self.accounts.sessions.link(secret) != "":
            return self._bad_link()
        return self.screen.page("first.html", wrong="", name="")

    async def use_first(self, secret: str) -> Response:
        """Make the first admin, and sign in."""
        if not cookies.is_safe_line():
            return self._asking("/", FORBIDDEN, "needs_tls")
        if await self.accounts.sessions.link(secret) != "":
            return self._bad_link()
        form = await request.form
        name, password = form.get("name", "").strip().lower(), form.get("password", "")
        try:
            passwords.check(password, name)
            stored = await self.hasher.hashed(password)
            opened = await self.accounts.sessions.use_first(secret, name, stored, cookies.origin())
        except Busy:
            return self._busy("/", name)
        except Refused as refused:
            if refused.reason == "bad_link":
                return self._bad_link()
            return self.screen.page("first.html", UNPROCESSABLE, wrong=refused.reason, name=name)
        self.first_used()
        return cookies.signed_in(_go("/"), opened, self.lasts_s)

    async def _take(self, name: str, address: str, browser: str) -> tuple[list[tuple[Kind, str]], float]:
        """Take a try from each bucket that counts; or nothing, and how long to wait."""
        known = await self.accounts.sessions.knows(browser, name)
        buckets: list[tuple[Kind, str]] = [("browser", browser)] if known else [("account", name), ("address", network(address))]
        taken: list[tuple[Kind, str]] = []
        for kind, key in buckets:
            wait_s = self.throttle.take(kind, key)
            if wait_s:
                self._give_back(taken)
                metrics.sign_ins.labels("password", "throttled").inc()
                if self.throttle.is_news(kind, key):
                    await self.accounts.sessions.refuse(name, address, f"throttled_{kind}")
                return [], wait_s
            taken.append((kind, key))
        return taken, 0.0

    def _give_back(self, taken: list[tuple[Kind, str]]) -> None:
        for kind, key in taken:
            self.throttle.give_back(kind, key)

    async def _leave(self) -> None:
        """End the session that the browser has now: a new one never goes on under an old id."""
        secret = cookies.secret(cookies.SESSION)
        visitor = await self.accounts.sessions.visitor(secret) if secret else None
        if visitor is not None:
            await self.accounts.sessions.end(visitor.user, visitor.user, only=visitor.session)

    def _asking(self, to: str, status: int = 200, wrong: str = "", name: str = "", wait_s: int = 0) -> Response:
        g.visitor = None
        shown = {"to": to, "wrong": wrong, "name": name, "wait_s": wait_s}
        return self.screen.page("sign_in.html", status, **shown, provider=self.provider, with_passwords=self.with_passwords)

    def _wait(self, to: str, name: str, wait_s: float) -> Response:
        response = self._asking(to, TOO_MANY, "wait", name, math.ceil(wait_s))
        response.headers["Retry-After"] = str(math.ceil(wait_s))
        return response

    def _busy(self, to: str, name: str) -> Response:
        response = self._asking(to, UNAVAILABLE, "busy", name)
        response.headers["Retry-After"] = str(BUSY_S)
        return response

    def _bad_link(self) -> Response:
        return self._asking("/", GONE, "bad_link")


def _go(to: str) -> Response:
    return redirect(to, 303)  # type: ignore[return-value]  # quart's own wrapper of a response
