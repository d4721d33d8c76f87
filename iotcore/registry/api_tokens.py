"""API tokens: for programs. Their owner answers for them; they may do a part of what the owner may, for a time."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass

from iotcore.errors import Refused
from iotcore.registry import audit, people
from iotcore.registry.database import Database, whole
from iotcore.registry.rights import EVERYWHERE, RIGHTS, Grant, Role, Visitor
from iotcore.registry.sessions import SECRET_BYTES, hashed
from iotcore.registry.tables import TEXT_LENGTH
from iotcore.registry.tables_people import ApiTokenRow, GrantRow, UserRow

PREFIX = "iotcore_"  # so that scanners of repositories and logs know one when they see it
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,19}")


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token as its owner sees it."""

    user: str
    name: str
    grants: frozenset[Grant]
    expires_ms: int
    revoked: bool


class ApiTokens:
    """The tokens of an installation. All methods raise StoreError when the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def create(self, user: str, name: str, grants: Collection[Grant], ttl_s: float, by: str) -> str:
        """A new token in clear text, shown here and never again.

        Raises:
            Refused: `unknown_user`, `disabled`, `bad_name`, `known_token`, `no_grant`, or `not_held`: the owner has less.

        Its areas need not be known: at each use it may what both it and its owner may there.
        """
        if not NAME.fullmatch(name):
            raise Refused("bad_name", "a token's name has 1 to 20 of a-z, 0-9, dash and underscore")
        text = audit.canonical(sorted([grant.role.value, grant.area] for grant in set(grants)))
        if not grants or len(text) > TEXT_LENGTH:
            raise Refused("no_grant", "say what the token may do, in fewer words than a book: --role ROLE[@AREA]")
        async with self._database.writing() as work:
            if (await people.known(work.db, user)).disabled_ms is not None:
                raise Refused("disabled", f"{user!r} is disabled")
            owner = Visitor(user, _grants(await GrantRow.filter(user_id=user).using_db(work.db)), by)
            for role, right in sorted((grant.role, right) for grant in grants for right in RIGHTS[grant.role]):
                if not owner.may_somewhere(right):
                    raise Refused("not_held", f"{user!r} may not {right.value}: no {role.value} can be made of what they may")
            if await ApiTokenRow.filter(user_id=user, name=name).using_db(work.db).exists():
                raise Refused("known_token", f"{user!r} has, or had, a token {name!r}; choose another name")
            secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
            expires_ms = work.now_ms + int(ttl_s * 1000)
            await ApiTokenRow.create(
                using_db=work.db,
                hash=hashed(secret),
                user_id=user,
                name=name,
                grants=text,
                made_ms=work.now_ms,
                expires_ms=expires_ms,
            )
            work.note(by, "api_token.create", f"{user}/{name}", grants=text, expires_ms=expires_ms)
            return secret

    async def all(self) -> list[ApiToken]:
        """All tokens, by owner and name."""
        async with self._database.reading() as db:
            rows = await ApiTokenRow.all().using_db(db).order_by("user_id", "name")
        return [ApiToken(row.user_id, row.name, _own(row), row.expires_ms, row.revoked_ms is not None) for row in rows]

    @whole
    async def revoke(self, user: str, name: str, by: str) -> bool:
        """A token is worth nothing any more; False when there is none, or it was so."""
        async with self._database.writing() as work:
            free = ApiTokenRow.filter(user_id=user, name=name, revoked_ms=None)
            if not await free.using_db(work.db).update(revoked_ms=work.now_ms):
                return False
            work.note(by, "api_token.revoke", f"{user}/{name}")
            return True

    async def visitor(self, secret: str) -> Visitor | None:
        """Who comes with this token; None for an unknown, revoked or expired one, or one of a disabled user."""
        if not secret.startswith(PREFIX):
            return None
        async with self._database.reading() as db:
            found = ApiTokenRow.filter(hash=hashed(secret), revoked_ms=None, expires_ms__gt=self._database.now_ms())
            row = await found.using_db(db).first()
            if row is None or not await UserRow.filter(name=row.user_id, disabled_ms=None).using_db(db).exists():
                return None
            grants = _grants(await GrantRow.filter(user_id=row.user_id).using_db(db))
        return Visitor(row.user_id, grants, f"{row.user_id}/{row.name}", within=_own(row))


def _own(row: ApiTokenRow) -> frozenset[Grant]:
    return frozenset(Grant(Role(role), area) for role, area in json.loads(row.grants))


def _grants(rows: Collection[GrantRow]) -> frozenset[Grant]:
    return frozenset(Grant(Role(row.role), row.area_id or EVERYWHERE) for row in rows)
