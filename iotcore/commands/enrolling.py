"""What people do about enrolment from the command line: tokens, makers' units, requests that wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from iotcore.app import common
from iotcore.clock import SystemClock
from iotcore.commands import units, who
from iotcore.commands.office import moment, opened
from iotcore.errors import Refused
from iotcore.registry.enrolments import Enrolments
from iotcore.settings import Settings

HOUR_S, DAY_S = 3_600.0, 86_400.0


@asynccontextmanager
async def enrolments(settings: Settings) -> AsyncIterator[tuple[Enrolments, str]]:
    """The registry's part that has to do with getting in, and who acts; closed at the end."""
    async with opened(settings) as registry:
        yield Enrolments(registry.database), await who.by(settings, registry.database)


async def make_tokens(
    settings: Settings, devices: Sequence[str], batch: str, uses: int, hours: float, *, approval: bool
) -> list[str]:
    """New tokens: one for each device, or one for so many units of a batch; shown here and never again.

    Raises:
        Refused: `whom`: neither or both are named, or why the registry makes none.
    """
    if bool(devices) == bool(batch):
        raise Refused("whom", "name devices, a group with --group, or --batch NAME with --uses N")
    async with enrolments(settings) as (made, by):
        if batch:
            return [await made.create_batch_token(batch, uses, hours * HOUR_S, by, approval=approval)]
        return [await made.create_token(device, hours * HOUR_S, by, approval=approval) for device in devices]


async def tokens(settings: Settings, device: str, batch: str, *, all_: bool) -> list[dict[str, object]]:
    """Tokens that could still be used, or all of them."""
    now_ms = SystemClock().wall_ms()
    async with enrolments(settings) as (made, _):
        found = await made.tokens(device, batch)
    return [
        {
            "id": one.id,
            "device": one.device,
            "batch": one.batch,
            "used": f"{one.used}/{one.uses}",
            "until": moment(one.expires_ms),
            "state": _state(now_ms, one.expires_ms, one.revoked_ms, used_up=one.used >= one.uses),
            "approval": one.approval or "",
        }
        for one in found
        if all_ or one.is_open(now_ms)
    ]


async def revoke(settings: Settings, id_: str, serial: str, model: str) -> str:
    """Take a token back, or a unit that has not enrolled; what was done.

    Raises:
        Refused: it is unknown, or used up.
    """
    async with enrolments(settings) as (made, by):
        if serial:
            await made.revoke_unit(serial, by, model)
            return f"unit {serial} may not enrol any more"
        return f"the token of {await made.revoke_token(id_, by)} is worth nothing any more"


async def tell(settings: Settings, file: Path, batch: str, days: float, *, dry_run: bool) -> str:
    """Keep a maker's list of units.

    Raises:
        ConfigError: with all that is wrong in it; nothing is kept.
    """
    entries = await asyncio.to_thread(units.read, file, common.specs_of(settings))
    async with enrolments(settings) as (made, by):
        new, known = await made.tell(batch or file.stem, entries, days * DAY_S, by, dry_run=dry_run)
    return f"batch {batch or file.stem}: {new} {'would be new' if dry_run else 'new'}, {known} known before"


async def list_units(settings: Settings, batch: str) -> list[dict[str, object]]:
    """Units that makers told us of."""
    async with enrolments(settings) as (made, _):
        found = await made.units(batch)
    return [
        {"serial": one.serial, "model": one.model, "batch": one.batch, "state": one.state, "device": one.device,
         "until": moment(one.expires_ms)}
        for one in found
    ]  # fmt: skip


async def bind(settings: Settings, serial: str, device: str) -> str:
    """Give a unit its place; what was done. Raises Refused."""
    async with enrolments(settings) as (made, by):
        done = await made.bind(serial, device, by)
    return f"unit {serial} is {device}: it may enrol now" if done else f"unit {serial} was {device} before"


async def release(settings: Settings, serial: str, model: str) -> str:
    """Take a unit from its place; what was done. Raises Refused."""
    async with enrolments(settings) as (made, by):
        device = await made.release(serial, by, model)
    return f"unit {serial} is free, and {device} waits for another; the unit's certificates are revoked"


async def requests(settings: Settings) -> list[dict[str, object]]:
    """Requests that wait for a person, and those lately decided."""
    async with enrolments(settings) as (made, _):
        found = await made.requests()
    return [
        {
            "id": one.id,
            "device": one.device,
            "anchor": one.anchor,
            "state": one.state,
            "asked": moment(one.asked_ms),
            "until": moment(one.expires_ms),
            "address": one.address,
            "key": one.key,
            "by": one.decided_by,
            "reason": one.reason,
        }
        for one in found
    ]


async def decide(settings: Settings, number: int, reason: str, *, approve: bool) -> str:
    """Approve or reject a request; what was done. Raises Refused."""
    async with enrolments(settings) as (made, by):
        device = await made.decide(number, by, approve=approve, reason=reason)
    return f"{device}: {'it gets its certificate when it asks again' if approve else 'rejected'}"


def _state(now_ms: float, expires_ms: int, revoked_ms: int | None, *, used_up: bool) -> str:
    if revoked_ms is not None:
        return "revoked"
    if used_up:
        return "used"
    return "open" if now_ms < expires_ms else "expired"
