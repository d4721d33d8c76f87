"""A visitor's own page: roles, password, open sessions."""

from __future__ import annotations

import json
from dataclasses import dataclass

from quart import Quart, Response, redirect, request

from iotcore.clock import Clock
from iotcore.errors import Refused
from iotcore.registry import passwords
from iotcore.registry.accounts import Accounts
from iotcore.registry.sessions import Session
from iotcore.web import cookies
from iotcore.web.door import Door, visiting
from iotcore.web.passwords import Busy, Passwords
from iotcore.web.problem import problem
from iotcore.web.screen import Screen
from iotcore.web.throttle import Throttle

UNAUTHORIZED, UNPROCESSABLE, TOO_MANY, UNAVAILABLE = 401, 422, 429, 503
FRESH_LINK_MS = 15 * 60_000  # whoever came by a one-time link so lately sets a password without the old one
SESSION_ID_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Account:
    """The routes."""

    accounts: Accounts
    door: Door
    screen: Screen
    throttle: Throttle
    hasher: Passwords
    clock: Clock
    with_passwords: bool

    def add(self, app: Quart) -> None:
        """Declare the routes."""
        self.door.route(app, "/account", self.page, right=None)
        self.door.route(app, "/account/password", self.password, right=None, methods=["POST"])
        self.door.route(app, "/account/sessions/<one>/end", self.end, right=None, methods=["POST"])
        self.door.route(app, "/api/v1/me", self.me, right=None)

    async def page(self) -> Response:
        """The page."""
        return await self._page()

    async def me(self) -> Response:
        """Who a program is, and what it may."""
        visitor = visiting()
        grants = visitor.grants if visitor.within is None else visitor.within
        roles = [{"role": grant.role.value, "area": grant.area} for grant in sorted(grants)]
        return Response(
            json.dumps({"user": visitor.user, "by": visitor.by, "roles": roles}, ensure_ascii=False),
            content_type="application/json",
        )

    async def password(self) -> Response:
        """A new password; every other session ends."""
        visitor = visiting()
        if not visitor.session:
            return self.door.forbidden("session")
        form = await request.form
        try:
            wrong = await self._may_change(visitor.user, form.get("current", ""))
            if not wrong:
                passwords.check(form.get("new", ""), visitor.user)
                stored = await self.hasher.hashed(form.get("new", ""))
                await self.accounts.people.keep_password(visitor.user, stored, visitor.user, spare=visitor.session)
        except Busy:
            return await self._page(UNAVAILABLE, "busy")
        except Refused as refused:
            return await self._page(UNPROCESSABLE, refused.reason)
        if wrong:
            return await self._page(TOO_MANY if wrong == "wait_a_little" else UNAUTHORIZED, wrong)
        return await self._page(done="password")

    async def end(self, one: str) -> Response:
        """End one of the visitor's own sessions, or all "others"."""
        visitor = visiting()
        if one == "others":
            await self.accounts.sessions.end(visitor.user, visitor.by, spare=visitor.session)
        elif len(one) < SESSION_ID_LENGTH or not await self.accounts.sessions.end(visitor.user, visitor.by, only=one):
            return problem(404, "not_found", "no such session of yours is open")
        return redirect("/account", 303)  # type: ignore[return-value]  # quart's own wrapper of a response

    async def _may_change(self, user: str, current: str) -> str:
        """Why not: the old password is wrong, or was guessed at too often; "" when nothing speaks against it."""
        if not self.with_passwords:
            return "no_passwords"
        session = await self._session()
        fresh = self.clock.wall_ms() - session.made_ms < FRESH_LINK_MS if session else False
        if session and session.way == "link" and fresh:
            return ""
        if self.throttle.take("browser", cookies.secret(cookies.SESSION)):
            return "wait_a_little"
        if not await self.hasher.verify(await self.accounts.people.password_of(user), current):
            await self.accounts.sessions.refuse(user, request.remote_addr or "?", "wrong_at_change")
            return "wrong_current"
        self.throttle.give_back("browser", cookies.secret(cookies.SESSION))
        return ""

    async def _session(self) -> Session | None:
        visitor = visiting()
        return next((one for one in await self.accounts.sessions.of(visitor.user) if one.hash == visitor.session), None)

    async def _page(self, status: int = 200, wrong: str = "", done: str = "") -> Response:
        visitor = visiting()
        sessions = await self.accounts.sessions.of(visitor.user)
        mine = next((one for one in sessions if one.hash == visitor.session), None)
        return self.screen.page(
            "account.html",
            status,
            wrong=wrong,
            done=done,
            sessions=sessions,
            mine=mine.id if mine else "",
            by_link=mine is not None and mine.way == "link" and self.clock.wall_ms() - mine.made_ms < FRESH_LINK_MS,
            with_passwords=self.with_passwords,
        )
