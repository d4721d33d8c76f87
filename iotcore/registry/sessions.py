"""Sessions of browsers and one-time links: 256 random bits each, kept as SHA-256, worth nothing to whoever steals the table."""

from __future__ import annotations

import hashlib
import logging
import secrets
from dataclasses import dataclass

from iotcore.errors import Refused, StoreError
from iotcore.registry import people
from iotcore.registry.database import Database, Writing, whole
from iotcore.registry.rights import EVERYWHERE, Grant, Role, Visitor
from iotcore.registry.tables import ID_LENGTH, TITLE_LENGTH
from iotcore.registry.tables_people import GrantRow, LinkRow, SessionRow, UserRow

log = logging.getLogger(__name__)

SECRET_BYTES = 32  # 256 bits
SEEN_SHARE = 10  # `seen_ms` is written when a tenth of the idle limit has passed: each write is an audit entry
BROWSER_KNOWN_MS = 90 * 86_400_000  # how long a browser that has signed in is known again
SESSIONS_OF_A_USER = 50  # a further sign-in ends the oldest


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session lasts without use, and in any case; ms."""

    idle_ms: int
    absolute_ms: int


@dataclass(frozen=True, slots=True)
class From:
    """Where somebody signs in from. `browser` is the secret of its cookie, "" for a new one."""

    address: str
    agent: str = ""
    browser: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """A new session's secrets, for cookies; shown here and never again."""

    session: str
    browser: str


@dataclass(frozen=True, slots=True)
class Session:
    """A session as its user sees it; `id` is the beginning of its hash."""

    id: str
    hash: str
    way: str
    address: str
    agent: str
    made_ms: int
    seen_ms: int


class Sessions:
    """Who is signed in. All methods raise StoreError when the database does not answer."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits

    @whole
    async def open(self, user: str, way: str, where: From) -> Opened:
        """Sign an active user in, under a new id; raises Refused(`unknown_user`)."""
        async with self._database.writing() as work:
            return await self._open(work, user, way, where)

    async def visitor(self, secret: str) -> Visitor | None:
        """Who comes with this session's secret; None when it has ended, is unknown, or its user is disabled."""
        async with self._database.reading() as db:
            now_ms = self._database.now_ms()
            alive = SessionRow.filter(hash=hashed(secret), ended_ms=None, expires_ms__gt=now_ms, user__disabled_ms=None)
            row = await alive.filter(seen_ms__gt=now_ms - self._limits.idle_ms).using_db(db).first()
            if row is None:
                return None
            grants = await GrantRow.filter(user_id=row.user_id).using_db(db)
        if now_ms - row.seen_ms > self._limits.idle_ms // SEEN_SHARE:
            try:
                await self._seen(row.hash, row.user_id)
            except StoreError as error:  # a full disk signs nobody out
                log.warning("the use of a session cannot be written: %s", error)
        held = frozenset(Grant(Role(grant.role), grant.area_id or EVERYWHERE) for grant in grants)
        return Visitor(row.user_id, held, row.user_id, row.hash)

    async def knows(self, browser: str, user: str) -> bool:
        """Whether this browser has signed in as this user lately."""
        if not browser:
            return False
        since_ms = self._database.now_ms() - BROWSER_KNOWN_MS
        async with self._database.reading() as db:
            return await SessionRow.filter(browser=hashed(browser), user_id=user, made_ms__gt=since_ms).using_db(db).exists()

    async def of(self, user: str) -> list[Session]:
        """A user's open sessions, the last used first."""
        now_ms = self._database.now_ms()
        async with self._database.reading() as db:
            alive = SessionRow.filter(user_id=user, ended_ms=None, expires_ms__gt=now_ms)
            rows = await alive.filter(seen_ms__gt=now_ms - self._limits.idle_ms).using_db(db).order_by("-seen_ms")
        return [Session(row.hash[:12], row.hash, row.way, row.address, row.agent, row.made_ms, row.seen_ms) for row in rows]

    @whole
    async def end(self, user: str, by: str, *, only: str = "", spare: str = "") -> int:
        """End sessions of a user: all, the one whose hash begins with `only`, or all but `spare`. How many ended."""
        async with self._database.writing() as work:
            alive = SessionRow.filter(user_id=user, ended_ms=None, hash__startswith=only)
            found = alive.exclude(hash=spare) if spare else alive
            ended = await found.using_db(work.db).update(ended_ms=work.now_ms)
            if ended:
                work.note(by, "session.end", user, count=ended)
            return ended

    @whole
    async def refuse(self, user: str, address: str, reason: str) -> None:
        """Audit a sign-in that was refused. A name that nobody has is not kept: people type passwords there."""
        async with self._database.writing() as work:
            known = await UserRow.filter(name=user[:ID_LENGTH]).using_db(work.db).exists()
            work.note("unproven", "session.refuse", user if known else "an unknown name", reason=reason, address=address)

    @whole
    async def make_link(self, user: str, ttl_s: float, by: str) -> str:
        """The secret of a link that signs `user` in, once; "" makes the first admin. Earlier ones of the same are worth nothing.

        Raises:
            Refused: `unknown_user`, `disabled`, or `not_first` when there is a user already.
        """
        async with self._database.writing() as work:
            if user and (await people.known(work.db, user)).disabled_ms is not None:
                raise Refused("disabled", f"{user!r} is disabled; enable it first")
            if not user and await UserRow.all().using_db(work.db).exists():
                raise Refused("not_first", "there are users: name the one who shall sign in")
            await LinkRow.filter(user_id=user or None, used_ms=None).using_db(work.db).update(used_ms=work.now_ms)
            secret = secrets.token_urlsafe(SECRET_BYTES)
            expires_ms = work.now_ms + int(ttl_s * 1000)
            await LinkRow.create(
                using_db=work.db, hash=hashed(secret), user_id=user or None, made_ms=work.now_ms, expires_ms=expires_ms
            )
            work.note(by, "link.create", user or "the first admin", expires_ms=expires_ms)
            return secret

    async def link(self, secret: str) -> str | None:
        """Whose link it is, "" for the first admin's; None when it is used, expired or unknown. It stays as it is."""
        async with self._database.reading() as db:
            row = await LinkRow.get_or_none(
                hash=hashed(secret), used_ms=None, expires_ms__gt=self._database.now_ms(), using_db=db
            )
            if row is None or (row.user_id is None and await UserRow.all().using_db(db).exists()):
                return None
        return row.user_id or ""

    @whole
    async def use_link(self, secret: str, where: From) -> Opened:
        """Use a user's link up and sign in; exactly one caller wins.

        Raises:
            Refused: `bad_link`.
        """
        async with self._database.writing() as work:
            return await self._open(work, await self._used(work, secret, first=False), "link", where)

    @whole
    async def use_first(self, secret: str, name: str, stored: str, where: From) -> Opened:
        """Use the first link up: make the first user, an admin of everything, and sign in.

        Raises:
            Refused: `bad_link`, or why there can be no user of this name.
        """
        async with self._database.writing() as work:
            await self._used(work, secret, first=True)
            await people.add(work, name, "first link")
            await people.allow(work, name, Grant(Role.ADMIN), "first link")
            await people.keep_password(work, name, stored, name)
            return await self._open(work, name, "link", where)

    @staticmethod
    async def _used(work: Writing, secret: str, *, first: bool) -> str:
        """Compare and set in one statement, as a claim token; the user that it is for."""
        free = LinkRow.filter(hash=hashed(secret), used_ms=None, expires_ms__gt=work.now_ms, user_id__isnull=first)
        row = await free.using_db(work.db).first()
        taken = await free.using_db(work.db).update(used_ms=work.now_ms)
        if row is None or not taken or (first and await UserRow.all().using_db(work.db).exists()):
            raise Refused("bad_link", "this link was used, is too old, or never was one; make another: iotcore user link")
        work.note(row.user_id or "first link", "link.use", row.user_id or "the first admin")
        return row.user_id or ""

    async def _open(self, work: Writing, user: str, way: str, where: From) -> Opened:
        if (await people.known(work.db, user)).disabled_ms is not None:
            raise Refused("unknown_user", f"{user!r} is disabled")
        opened = Opened(secrets.token_urlsafe(SECRET_BYTES), where.browser or secrets.token_urlsafe(SECRET_BYTES))
        await SessionRow.create(
            using_db=work.db,
            hash=hashed(opened.session),
            user_id=user,
            browser=hashed(opened.browser),
            way=way,
            address=where.address[:ID_LENGTH],
            agent=where.agent[:TITLE_LENGTH],
            made_ms=work.now_ms,
            seen_ms=work.now_ms,
            expires_ms=work.now_ms + self._limits.absolute_ms,
        )
        alive = await SessionRow.filter(user_id=user, ended_ms=None).using_db(work.db).order_by("-made_ms").values_list("hash")
        for (surplus,) in alive[SESSIONS_OF_A_USER:]:
            await SessionRow.filter(hash=surplus).using_db(work.db).update(ended_ms=work.now_ms)
        await SessionRow.filter(user_id=user, made_ms__lt=work.now_ms - BROWSER_KNOWN_MS).using_db(work.db).delete()
        work.note(user, "session.open", user, way=way, address=where.address[:ID_LENGTH])
        return opened

    @whole
    async def _seen(self, hash_: str, user: str) -> None:
        async with self._database.writing() as work:
            await SessionRow.filter(hash=hash_, ended_ms=None).using_db(work.db).update(seen_ms=work.now_ms)
            work.note(user, "session.seen", user, session=hash_[:12])


def hashed(secret: str) -> str:
    """What is stored of a random secret: it needs no salt and no slow hash, for nobody guesses 256 bits."""
    return hashlib.sha256(secret.encode()).hexdigest()
