"""Signing in with an OpenID provider: who may become a user here, and which roles their groups give."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from quart import Quart, Response, g, redirect, request

from iotcore import metrics
from iotcore.errors import Refused
from iotcore.registry.accounts import Accounts
from iotcore.registry.people import NAME
from iotcore.registry.rights import Grant, Role
from iotcore.settings import Oidc
from iotcore.web import cookies
from iotcore.web.door import Door
from iotcore.web.oidc import Attempt, Proved, Provider, Unproven
from iotcore.web.screen import Screen

COOKIE, TARGET = "oidc", "oidc-to"
ATTEMPT_S = 600
FORBIDDEN, UNAVAILABLE = 403, 503
BY = "oidc"
# What a person is told; the rest is one thing to them, and its name stands in the audit
TOLD = frozenset({"provider_down", "refused", "unknown_person", "no_role", "name_taken", "not_begun"})
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SignInOidc:
    """The routes; only where a provider is set."""

    settings: Oidc
    provider: Provider
    accounts: Accounts
    door: Door
    screen: Screen
    lasts_s: int
    with_passwords: bool

    def add(self, app: Quart) -> None:
        """Declare the routes."""
        self.door.let_in(app, "/sign-in/oidc", self.begin)
        self.door.let_in(app, "/sign-in/oidc/back", self.end)

    async def begin(self) -> Response:
        """Send the browser to the provider."""
        if not cookies.is_safe_line():
            return self._refused("needs_tls", FORBIDDEN)
        attempt = Attempt.new()
        try:
            url = await self.provider.begin(attempt, _back())
        except Unproven as error:
            return await self._unproven(error)
        response: Response = redirect(url, 303)  # type: ignore[assignment]  # quart's own wrapper of a response
        # Lax: the browser comes back from another site, and must bring them
        cookies.put(response, COOKIE, attempt.cookie, ATTEMPT_S, "Lax")
        cookies.put(response, TARGET, cookies.local(request.args.get("to", "/")), ATTEMPT_S, "Lax")
        return response

    async def end(self) -> Response:
        """The provider sends the browser back."""
        try:
            attempt = Attempt.of(cookies.secret(COOKIE))
            proved = await self.provider.end(attempt, _back(), request.args)
            user = await self._user(proved)
        except Unproven as error:
            return await self._unproven(error)
        opened = await self.accounts.sessions.open(user, "oidc", cookies.origin())
        metrics.sign_ins.labels("oidc", "in").inc()
        g.visitor = None
        # a page, no redirect: a browser that comes from another site would not send a strict cookie along
        response = self.screen.page("go_on.html", to=cookies.local(cookies.secret(TARGET)))
        cookies.drop(response, COOKIE)
        cookies.drop(response, TARGET)
        return cookies.signed_in(response, opened, self.lasts_s)

    async def _user(self, proved: Proved) -> str:
        """The user that somebody is here, with the roles that their groups give now; raises Unproven."""
        grants = {Grant(Role(one.role), one.area) for one in self.settings.roles if one.group in proved.groups}
        people = self.accounts.people
        user = await people.by_subject(proved.subject)
        try:
            if not user:
                user = await self._new_user(proved, grants)
            await people.provided(user, grants, BY)
            if not (await people.person(user)).grants:
                raise Unproven("no_role", f"none of the groups of {user!r} has a role here")
        except Refused as refused:
            log.error("the roles of the provider's groups cannot be given: %s", refused)  # noqa: TRY400 - a setting, no fault
            raise Unproven("no_role", str(refused)) from refused
        return user

    async def _new_user(self, proved: Proved, grants: set[Grant]) -> str:
        if not self.settings.auto_create:
            raise Unproven("unknown_person", "an admin registers them: iotcore user add NAME --subject SUB")
        if not grants:
            raise Unproven("no_role", "none of their groups has a role here")
        if not NAME.fullmatch(proved.name) or any(one.name == proved.name for one in await self.accounts.people.everybody()):
            raise Unproven("name_taken", f"{proved.name[:40]!r} is another user's name here, or none that a user can have")
        await self.accounts.people.add(proved.name, [], BY, subject=proved.subject)
        return proved.name

    async def _unproven(self, error: Unproven) -> Response:
        log.warning("nobody is signed in by the OpenID provider: %s", error)
        metrics.sign_ins.labels("oidc", "refused").inc()
        await self.accounts.sessions.refuse("", request.remote_addr or "?", f"oidc_{error.reason}")
        down = error.reason == "provider_down"
        return self._refused(error.reason if error.reason in TOLD else "not_proved", UNAVAILABLE if down else FORBIDDEN)

    def _refused(self, reason: str, code: int) -> Response:
        g.visitor = None
        shown = {"to": "/", "wrong": reason, "name": "", "wait_s": 0}
        return self.screen.page("sign_in.html", code, **shown, provider=self.settings.title, with_passwords=self.with_passwords)


def _back() -> str:
    """Where the provider sends the browser; the door has checked the host."""
    return f"{request.scheme}://{request.host}/sign-in/oidc/back"
