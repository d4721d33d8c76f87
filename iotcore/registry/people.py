"""Users and their grants. Every change commits with its audit entry; a disabled user is out at once, everywhere."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from tortoise.backends.base.client import BaseDBAsyncClient

from iotcore.errors import Refused
from iotcore.registry.database import Database, Writing, whole
from iotcore.registry.rights import EVERYWHERE, Grant, Role
from iotcore.registry.tables import AreaRow
from iotcore.registry.tables_people import ApiTokenRow, GrantRow, LinkRow, SessionRow, UserRow

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
LOCAL, PROVIDED = "local", "oidc"  # where a grant comes from: an admin, or the groups that an OpenID provider tells


@dataclass(frozen=True, slots=True)
class Person:
    """A user. `has_password`: one is set; `subject`: who they are at an OpenID provider, "" for nobody there."""

    name: str
    full_name: str
    grants: frozenset[Grant]
    disabled: bool
    has_password: bool
    subject: str
    made_ms: int

    @property
    def is_admin(self) -> bool:
        """Whether they count as one of the two persons: an active admin of everything."""
        return not self.disabled and Grant(Role.ADMIN, EVERYWHERE) in self.grants


class People:
    """The users of an installation. All methods raise StoreError when the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def anybody(self) -> bool:
        """Whether there was ever a user: an installation without one is being set up."""
        async with self._database.reading() as db:
            return await UserRow.all().using_db(db).exists()

    async def everybody(self) -> list[Person]:
        """All users, by name."""
        async with self._database.reading() as db:
            rows = await UserRow.all().using_db(db).order_by("name")
            grants = await GrantRow.all().using_db(db)
        return [_person(row, [grant for grant in grants if grant.user_id == row.name]) for row in rows]

    async def person(self, name: str) -> Person:
        """One user; raises Refused(`unknown_user`)."""
        async with self._database.reading() as db:
            return _person(await known(db, name), await GrantRow.filter(user_id=name).using_db(db))

    async def admins(self) -> list[str]:
        """Names of the active admins of everything."""
        return [person.name for person in await self.everybody() if person.is_admin]

    async def password_of(self, name: str) -> str:
        """The stored hash of an active user's password; "" for none, an unknown or a disabled user."""
        async with self._database.reading() as db:
            row = await UserRow.get_or_none(name=name, disabled_ms=None, using_db=db)
        return row.password if row is not None else ""

    async def by_subject(self, subject: str) -> str:
        """The active user who is this at the OpenID provider; "" for nobody."""
        async with self._database.reading() as db:
            row = await UserRow.get_or_none(subject=subject, disabled_ms=None, using_db=db)
        return row.name if row is not None else ""

    @whole
    async def add(self, name: str, grants: Iterable[Grant], by: str, *, full_name: str = "", subject: str = "") -> None:
        """Register a user, without a password.

        Raises:
            Refused: `bad_name`, `known_user`, `known_subject` or `unknown_area`.
        """
        async with self._database.writing() as work:
            await add(work, name, by, full_name=full_name, subject=subject)
            for grant in sorted(set(grants)):
                await allow(work, name, grant, by)

    @whole
    async def keep_password(self, name: str, stored: str, by: str, *, spare: str = "") -> None:
        """Keep a new password's hash; the user's sessions end, but for `spare` (a session's hash), links are worth nothing.

        Raises:
            Refused: `unknown_user`.
        """
        async with self._database.writing() as work:
            await keep_password(work, name, stored, by, spare=spare)

    @whole
    async def refresh_hash(self, name: str, before: str, stored: str) -> None:
        """The same password with today's parameters: nothing ends. Nothing happens when it was changed meanwhile."""
        async with self._database.writing() as work:
            if await UserRow.filter(name=name, password=before).using_db(work.db).update(password=stored):
                work.note(name, "user.rehash", name)

    @whole
    async def disable(self, name: str, by: str) -> bool:
        """Nobody gets in as this user any more; sessions, links and API tokens end. False when it was so.

        Raises:
            Refused: `unknown_user` or `last_admin`.
        """
        async with self._database.writing() as work:
            row = await known(work.db, name)
            if row.disabled_ms is not None:
                return False
            await UserRow.filter(name=name).using_db(work.db).update(disabled_ms=work.now_ms)
            await _end_everything(work, name)
            await ApiTokenRow.filter(user_id=name, revoked_ms=None).using_db(work.db).update(revoked_ms=work.now_ms)
            if await GrantRow.filter(user_id=name, role=Role.ADMIN.value, area_id=None).using_db(work.db).exists():
                await _an_admin_is_left(work)
            work.note(by, "user.disable", name)
            work.changed("person", name)
            return True

    @whole
    async def enable(self, name: str, by: str) -> bool:
        """A disabled user may sign in again; raises Refused(`unknown_user`)."""
        async with self._database.writing() as work:
            row = await known(work.db, name)
            if row.disabled_ms is None:
                return False
            await UserRow.filter(name=name).using_db(work.db).update(disabled_ms=None)
            work.note(by, "user.enable", name)
            work.changed("person", name)
            return True

    @whole
    async def grant(self, name: str, grant: Grant, by: str) -> bool:
        """Give a role; False when the user has it. Raises Refused: `unknown_user`, `unknown_area`."""
        async with self._database.writing() as work:
            await known(work.db, name)
            return await allow(work, name, grant, by)

    @whole
    async def revoke(self, name: str, grant: Grant, by: str) -> bool:
        """Take a role away; False when the user does not have it.

        Raises:
            Refused: `unknown_user` or `last_admin`.
        """
        async with self._database.writing() as work:
            await known(work.db, name)
            gone = (
                await GrantRow.filter(user_id=name, role=grant.role.value, area_id=grant.area or None).using_db(work.db).delete()
            )
            if not gone:
                return False
            if grant == Grant(Role.ADMIN):
                await _an_admin_is_left(work)
            work.note(by, "user.revoke", name, role=grant.role.value, area=grant.area)
            work.changed("person", name)
            return True

    @whole
    async def provided(self, name: str, grants: Collection[Grant], by: str) -> None:
        """The grants that an OpenID provider's groups give, in place of those they gave before; raises Refused."""
        async with self._database.writing() as work:
            await provide(work, name, grants, by)


async def known(db: BaseDBAsyncClient, name: str) -> UserRow:
    """A user's row.

    Raises:
        Refused: `unknown_user`.
    """
    row = await UserRow.get_or_none(name=name, using_db=db)
    if row is None:
        raise Refused("unknown_user", f"{name!r} is no user; `iotcore user list` shows all")
    return row


async def add(work: Writing, name: str, by: str, *, full_name: str = "", subject: str = "") -> None:
    """Register a user, within the caller's transaction; raises Refused as `People.add`."""
    if not NAME.fullmatch(name):
        raise Refused(
            "bad_name", "a user's name has 1 to 40 of a-z, 0-9, dot, dash and underscore, and begins with a letter or digit"
        )
    if await UserRow.filter(name=name).using_db(work.db).exists():
        raise Refused("known_user", f"there is a user {name!r} already")
    if subject and await UserRow.filter(subject=subject).using_db(work.db).exists():
        raise Refused("known_subject", "another user is this person at the OpenID provider")
    await UserRow.create(using_db=work.db, name=name, full_name=full_name, subject=subject or None, made_ms=work.now_ms)
    work.note(by, "user.add", name, provider=subject)
    work.changed("person", name)


async def allow(work: Writing, name: str, grant: Grant, by: str, source: str = LOCAL) -> bool:
    """Give a role, within the caller's transaction; False when the user has it from the same source."""
    if grant.area and not await AreaRow.filter(id=grant.area).using_db(work.db).exists():
        raise Refused("unknown_area", f"{grant.area!r} is no area that is registered")
    held = GrantRow.filter(user_id=name, role=grant.role.value, area_id=grant.area or None, source=source)
    if await held.using_db(work.db).exists():
        return False
    await GrantRow.create(using_db=work.db, user_id=name, role=grant.role.value, area_id=grant.area or None, source=source)
    work.note(by, "user.grant", name, role=grant.role.value, area=grant.area, source=source)
    work.changed("person", name)
    return True


async def provide(work: Writing, name: str, grants: Collection[Grant], by: str) -> None:
    """Within the caller's transaction: the provider's grants become exactly these."""
    rows = await GrantRow.filter(user_id=name, source=PROVIDED).using_db(work.db)
    before = {Grant(Role(row.role), row.area_id or EVERYWHERE): row for row in rows}
    for grant in before.keys() - set(grants):
        await GrantRow.filter(id=before[grant].id).using_db(work.db).delete()
        work.note(by, "user.revoke", name, role=grant.role.value, area=grant.area, source=PROVIDED)
        work.changed("person", name)
    for grant in sorted(set(grants) - before.keys()):
        await allow(work, name, grant, by, PROVIDED)


async def keep_password(work: Writing, name: str, stored: str, by: str, *, spare: str = "") -> None:
    """Within the caller's transaction; raises Refused(`unknown_user`)."""
    await known(work.db, name)
    await UserRow.filter(name=name).using_db(work.db).update(password=stored)
    await _end_everything(work, name, spare)
    work.note(by, "user.password", name)
    work.changed("person", name)


async def _end_everything(work: Writing, name: str, spare: str = "") -> None:
    """End a user's sessions but one, and the links that wait; its caller notes why."""
    sessions = SessionRow.filter(user_id=name, ended_ms=None).exclude(hash=spare)
    ended = await sessions.using_db(work.db).update(ended_ms=work.now_ms)
    await LinkRow.filter(user_id=name, used_ms=None).using_db(work.db).update(used_ms=work.now_ms)
    if ended:
        work.note(name, "session.end", name, count=ended)


async def _an_admin_is_left(work: Writing) -> None:
    held = GrantRow.filter(role=Role.ADMIN.value, area_id=None, user__disabled_ms=None)
    if not await held.using_db(work.db).exists():
        raise Refused("last_admin", "nobody could manage this installation any more; make another admin first")


def _person(row: UserRow, grants: Iterable[GrantRow]) -> Person:
    held = frozenset(Grant(Role(grant.role), grant.area_id or EVERYWHERE) for grant in grants)
    return Person(row.name, row.full_name, held, row.disabled_ms is not None, bool(row.password), row.subject or "", row.made_ms)
