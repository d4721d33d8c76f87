"""`iotcore disablement …` and `iotcore walk …`: what is out of service for a time, and who tests which zone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from iotcore.app import common
from iotcore.clock import SystemClock
from iotcore.commands import office, who
from iotcore.errors import Refused, StartError
from iotcore.registry.database import SQLITE_URL
from iotcore.registry.directory import Disablement, Target, Walk
from iotcore.registry.disablements import Disablements
from iotcore.registry.walks import Walks
from iotcore.settings import Settings

MINUTE_MS = 60_000
ACTION = "disable"
Row = dict[str, Any]


def target(text: str) -> Target:
    """What `device:ID`, `point:DEVICE/POINT`, `zone:ID` or `premises:ID` names.

    Raises:
        StartError: it is none of these.
    """
    kind, _, rest = text.partition(":")
    subject, _, point = rest.partition("/")
    if kind not in ("point", "device", "zone", "premises") or not subject or bool(point) is not (kind == "point"):
        raise StartError(f"{text!r} names nothing", "Say device:ID, point:DEVICE/POINT, zone:ID or premises:ID.")
    return Target(kind, subject, point)  # type: ignore[arg-type]  # one of the four


async def disable(settings: Settings, what: str, minutes: float, reason: str, alone: str) -> Disablement:
    """Disable something; a whole premises waits for a second person. Raises StartError or Refused."""
    named = target(what)
    async with who.opened(settings) as desk, office.opened(settings) as registry:
        second = named.kind == "premises" and settings.people.two_person and await desk.people.people.anybody()
        if second and alone:
            await desk.people.approvals.alone(ACTION, {"target": str(named)}, desk.by, alone)
            second = False
        out = Disablements(registry.database)
        specs = common.specs_of(settings)
        return await out.disable(named, int(minutes * MINUTE_MS), reason, desk.by, specs, second_person=second)


async def confirm(settings: Settings, name: str) -> Disablement:
    """Say yes as the second person. Raises Refused, `who` where it cannot be told who asks."""
    async with who.opened(settings) as desk, office.opened(settings) as registry:
        if not desk.user:
            do = f"put your API token into {who.TOKEN_VARIABLE}, or name your login in people.operators of the settings"
            raise Refused("who", f"it cannot be told which person you are: {do}")
        return await Disablements(registry.database).confirm(name, desk.by, desk.user)


async def lift(settings: Settings, name: str) -> bool:
    """End a disablement; False when it is over. Raises Refused."""
    async with who.opened(settings) as desk, office.opened(settings) as registry:
        return await Disablements(registry.database).lift(name, desk.by)


async def disablements(settings: Settings, *, ended: bool) -> list[Row]:
    """A row each, the newest first."""
    now_ms = SystemClock().wall_ms()
    async with office.opened(settings) as registry:
        return [row(one, now_ms) for one in await Disablements(registry.database).all(ended=ended)]


def row(one: Disablement, now_ms: float) -> Row:
    """A disablement for a person."""
    if one.ended_ms is not None or one.until_ms <= now_ms:
        state = "over"
    else:
        state = "waits for a second person" if one.started_ms is None else "disabled"
    return {
        "id": one.id,
        "what": str(one.target),
        "state": state,
        "until": office.moment(one.until_ms),
        "reason": one.reason,
        "by": one.by,
        "confirmed_by": one.confirmed_by,
        "ended_by": one.ended_by,
    }


async def start_walk(settings: Settings, premises: str, zone: str, minutes: float) -> Walk:
    """Begin a walk test. Raises Refused."""
    async with who.opened(settings) as desk, office.opened(settings) as registry:
        return await Walks(registry.database).start(premises, zone, int(minutes * MINUTE_MS), desk.by)


async def end_walk(settings: Settings, name: str) -> bool:
    """End a walk test; False when it is over. Raises Refused."""
    async with who.opened(settings) as desk, office.opened(settings) as registry:
        return await Walks(registry.database).end(name, desk.by)


async def walks(settings: Settings, *, ended: bool) -> list[Row]:
    """A row each, the newest first."""
    now_ms = SystemClock().wall_ms()
    async with office.opened(settings) as registry:
        return [
            {
                "id": one.id,
                "premises": one.premises,
                "zone": one.zone,
                "state": "lasts" if one.covers(now_ms) else "over",
                "from": office.moment(one.started_ms),
                "until": office.moment(one.ended_ms or one.until_ms),
                "by": one.by,
            }
            for one in await Walks(registry.database).all(ended=ended)
        ]


async def standing(settings: Settings, now_ms: float) -> list[str]:
    """What is disabled or in walk test now, a line each; of a registry that is not there yet, nothing."""
    if not _is_there(settings.registry_url):
        return []
    async with office.opened(settings) as registry:
        disabled = [one for one in await Disablements(registry.database).all() if one.until_ms > now_ms]
        lasting = [one for one in await Walks(registry.database).all() if one.covers(now_ms)]
    told = []
    for one in disabled:
        state = "is disabled" if one.started_ms is not None else "waits for a second person"
        told.append(f"{one.target} {state} until {office.moment(one.until_ms)} by {one.by}: {one.reason}")
    told += [f"{one.zone or one.premises} is in walk test until {office.moment(one.until_ms)} by {one.by}" for one in lasting]
    return told


def _is_there(url: str) -> bool:
    return not url.startswith(SQLITE_URL) or Path(url.removeprefix(SQLITE_URL)).exists()
