"""`iotcore user|apitoken|approval …`."""

from __future__ import annotations

from datetime import UTC, datetime

from iotcore.app import first
from iotcore.commands.who import Desk, opened
from iotcore.errors import Refused
from iotcore.registry import passwords
from iotcore.registry.rights import EVERYWHERE, Grant, Role
from iotcore.settings import Settings

Rows = list[dict[str, object]]


def grant_of(text: str) -> Grant:
    """A grant as people write it: `dispatcher`, or `dispatcher@hac-thanh` for one area.

    Raises:
        Refused: `unknown_role`.
    """
    role, _, area = text.partition("@")
    if role not in {one.value for one in Role}:
        raise Refused("unknown_role", f"{role!r}; there are: {', '.join(one.value for one in Role)}; with an area: ROLE@AREA")
    return Grant(Role(role), area or EVERYWHERE)


async def add(settings: Settings, name: str, roles: list[str], alone: str, *, full_name: str, subject: str) -> None:
    """Register a user; raises Refused."""
    grants = [grant_of(role) for role in roles]
    async with opened(settings) as desk:
        if Grant(Role.ADMIN) in grants:
            await desk.admins_change("user.add", {"name": name, "roles": sorted(roles)}, alone)
        provider = f"{settings.oidc.issuer} {subject}" if subject else ""
        await desk.people.people.add(name, grants, desk.by, full_name=full_name, subject=provider)


async def everybody(settings: Settings) -> Rows:
    """All users, a row each."""
    async with opened(settings) as desk:
        return [
            {
                "user": one.name,
                "name": one.full_name,
                "roles": " ".join(_told(grant) for grant in sorted(one.grants)),
                "signs_in_by": " ".join(way for way, has in (("password", one.has_password), ("oidc", one.subject)) if has),
                "disabled": one.disabled or "",
                "made": _moment(one.made_ms),
            }
            for one in await desk.people.people.everybody()
        ]


async def able(settings: Settings, name: str, alone: str, *, enable: bool) -> bool:
    """Disable or enable a user; whether that changed anything; raises Refused."""
    async with opened(settings) as desk:
        if enable:
            return await desk.people.people.enable(name, desk.by)
        await _of_an_admin(desk, "user.disable", name, alone)
        return await desk.people.people.disable(name, desk.by)


async def give(settings: Settings, name: str, role: str, alone: str, *, take: bool) -> bool:
    """Give or take a role; whether that changed anything; raises Refused."""
    grant = grant_of(role)
    async with opened(settings) as desk:
        if grant == Grant(Role.ADMIN):
            action = "user.revoke" if take else "user.grant"
            await desk.admins_change(action, {"name": name, "role": role}, alone)
        if take:
            return await desk.people.people.revoke(name, grant, desk.by)
        return await desk.people.people.grant(name, grant, desk.by)


async def set_password(settings: Settings, name: str, password: str, alone: str) -> None:
    """Set a user's password; all sessions end; raises Refused."""
    passwords.check(password, name)
    async with opened(settings) as desk:
        await _of_an_admin(desk, "user.password", name, alone)
        await desk.people.people.keep_password(name, passwords.hashed(password), desk.by)


async def sessions(settings: Settings, name: str) -> Rows:
    """Where a user is signed in, the last used first; raises Refused(`unknown_user`)."""
    async with opened(settings) as desk:
        await desk.people.people.person(name)
        found = await desk.people.sessions.of(name)
    return [
        {
            "session": one.id,
            "by": one.way,
            "from": one.address,
            "browser": one.agent,
            "since": _moment(one.made_ms),
            "used": _moment(one.seen_ms),
        }
        for one in found
    ]


async def end_sessions(settings: Settings, name: str) -> int:
    """End every session of a user; how many; raises Refused(`unknown_user`)."""
    async with opened(settings) as desk:
        await desk.people.people.person(name)
        return await desk.people.sessions.end(name, desk.by)


async def link(settings: Settings, name: str, hours: float, alone: str) -> str:
    """A link that signs a user in, once; without a name, the one that makes the first admin; raises Refused."""
    async with opened(settings) as desk:
        if name:
            await _of_an_admin(desk, "user.link", name, alone)
        return await first.link(settings, desk.people, name, hours * 3600.0, desk.by)


async def create_token(settings: Settings, user: str, name: str, roles: list[str], alone: str, *, days: float) -> str:
    """A new API token of a user, shown here once; raises Refused."""
    grants = [grant_of(role) for role in roles]
    async with opened(settings) as desk:
        if Grant(Role.ADMIN) in grants:
            await _of_an_admin(desk, "apitoken.create", user, alone)
        return await desk.people.tokens.create(user, name, grants, days * 86_400.0, desk.by)


async def tokens(settings: Settings) -> Rows:
    """All API tokens, a row each."""
    async with opened(settings) as desk:
        return [
            {
                "token": f"{one.user}/{one.name}",
                "roles": " ".join(_told(grant) for grant in sorted(one.grants)),
                "until": _moment(one.expires_ms),
                "revoked": one.revoked or "",
            }
            for one in await desk.people.tokens.all()
        ]


async def revoke_token(settings: Settings, user: str, name: str) -> bool:
    """A token is worth nothing any more; whether it was."""
    async with opened(settings) as desk:
        return await desk.people.tokens.revoke(user, name, desk.by)


async def approvals(settings: Settings, *, waiting: bool) -> Rows:
    """What takes two persons, a row each, the newest first."""
    async with opened(settings) as desk:
        return [
            {
                "approval": one.id,
                "state": one.state,
                "action": one.action,
                "arguments": one.arguments,
                "asked_by": one.asked_by,
                "asked": _moment(one.asked_ms),
                "until": _moment(one.expires_ms),
                "decided_by": one.decided_by,
            }
            for one in await desk.people.approvals.all(waiting=waiting)
        ]


async def decide(settings: Settings, number: int, *, approve: bool) -> str:
    """Approve or reject what another admin asked for; what it was; raises Refused."""
    async with opened(settings) as desk:
        if not desk.user:
            raise Refused("who", "it is not known which admin you are: put an API token of yours into IOTCORE_API_TOKEN")
        done = await desk.people.approvals.decide(number, desk.user, approve=approve)
    return f"{done.state}: {done.action} {done.arguments}, asked for by {done.asked_by}"


async def _of_an_admin(desk: Desk, action: str, name: str, alone: str) -> None:
    """Two persons for what would let one admin be another."""
    if await desk.is_other_admin(name):
        await desk.admins_change(action, {"name": name}, alone)


def _told(grant: Grant) -> str:
    return f"{grant.role.value}@{grant.area}" if grant.area else grant.role.value


def _moment(at_ms: float) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000.0, UTC):%Y-%m-%d %H:%MZ}"
