"""Who is at the command line: the owner of the API token in IOTCORE_API_TOKEN, else the user that the settings give to a login.

This proves somebody to the audit and to the two-person rule. It is no wall: whoever can read the data folder can do everything
without us (docs/people.md).
"""

from __future__ import annotations

import os
import pwd
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from iotcore.commands import office
from iotcore.errors import Refused
from iotcore.process.credentials import environment
from iotcore.registry.accounts import Accounts, accounts
from iotcore.registry.database import Database
from iotcore.registry.rights import Right
from iotcore.settings import Settings

TOKEN_VARIABLE = "IOTCORE_API_TOKEN"  # noqa: S105 - the name of a variable


@dataclass(frozen=True, slots=True)
class Desk:
    """The people of an installation, and who is at its command line.

    `by` stands in the audit; `user` is a user of ours, "" for a login that the settings give no user.
    """

    settings: Settings
    people: Accounts
    user: str
    by: str

    async def second_person(self, action: str, arguments: dict[str, object], alone: str) -> None:
        """Go on only with what another admin has approved; else ask for it. `alone` is the reason for breaking the glass.

        An installation without users is being set up: there, nobody is asked for.

        Raises:
            Refused: `who`, `no_admin`, or `second_person`: with what to do now.
        """
        if not self.settings.people.two_person or not await self.people.people.anybody():
            return
        if alone:
            await self.people.approvals.alone(action, arguments, self.by, alone)
            return
        if not self.user:
            do = f"put an admin's API token into {TOKEN_VARIABLE}, or name your login in people.operators of the settings"
            raise Refused("who", f"{action} takes two admins, and it cannot be told which one you are: {do}; or --alone REASON")
        if await self.people.approvals.take(action, arguments, self.user) is not None:
            return
        asked = await self.people.approvals.ask(action, arguments, self.user)
        others = [name for name in await self.people.people.admins() if name != self.user]
        do = (
            f"{' or '.join(others)} must say yes (iotcore approval approve {asked.id}, or the page /approvals), within a day; "
            "then give this command again"
            if others
            else f"{self.user!r} is the only one: make another (iotcore user add NAME --role admin), or go without: "
            "--alone REASON, which the audit tells aloud"
        )
        raise Refused("second_person", f"{action} takes two admins: {do}")

    async def admins_change(self, action: str, arguments: dict[str, object], alone: str) -> None:
        """What makes, unmakes or impersonates an admin takes two where there are two: else one could become both."""
        if len(await self.people.people.admins()) > 1:
            await self.second_person(action, arguments, alone)

    async def is_other_admin(self, name: str) -> bool:
        """Whether this is an admin, and not who asks; raises Refused(`unknown_user`)."""
        return (await self.people.people.person(name)).is_admin and name != self.user


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Desk]:
    """The people of this installation, and who asks; raises Refused(`bad_token`)."""
    async with office.opened(settings) as registry:
        people = accounts(registry.database, settings.people.session_idle_s, settings.people.session_s)
        yield Desk(settings, people, *await _who(settings, people))


async def by(settings: Settings, database: Database) -> str:
    """Who stands in the audit for what is done at this command line; raises Refused(`bad_token`)."""
    return (await _who(settings, accounts(database, settings.people.session_idle_s, settings.people.session_s)))[1]


async def named(settings: Settings, database: Database, otherwise: str) -> str:
    """The same where it is known who that is: by a token, or by the settings; else `otherwise`. Raises Refused(`bad_token`)."""
    if environment(os.environ).get(TOKEN_VARIABLE, ""):
        return await by(settings, database)
    return settings.people.operators.get(_login(), "") or otherwise


def _login() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


async def _who(settings: Settings, people: Accounts) -> tuple[str, str]:
    token = environment(os.environ).get(TOKEN_VARIABLE, "")
    if token:
        visitor = await people.tokens.visitor(token)
        if visitor is None:
            raise Refused("bad_token", f"the token in {TOKEN_VARIABLE} is unknown, revoked or too old")
        return visitor.user if visitor.may(Right.APPROVE) else "", visitor.by
    login = _login()
    user = settings.people.operators.get(login, "")
    return user, user or f"login {login}"
