"""`iotcore response …`: the response plans of premises."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import msgspec

from iotcore.commands import office, who
from iotcore.errors import ConfigError, Problem, Refused
from iotcore.registry.audit import canonical
from iotcore.registry.response import DEFAULT, MAX_BYTES, Response, check, parse, weaker
from iotcore.registry.responses import Kept, Responses
from iotcore.settings import Settings

ACTION = "response.save"
Row = dict[str, Any]


def read(path: Path) -> object:
    """The plain data of a plan in a YAML file; raises ConfigError."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode("utf-8")
    except OSError as error:
        raise ConfigError([Problem(str(path), "", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(str(path), "", "is not UTF-8")]) from error
    return parse(text, str(path))


def receivers_of(settings: Settings) -> list[str]:
    """The names that a plan may tell."""
    return [receiver.name for receiver in settings.receivers]


def named(premises: str, plan: Response, why: tuple[str, ...]) -> dict[str, object]:
    """What a second person says yes to: this very plan, and what of it protects less."""
    text = canonical(msgspec.to_builtins(plan))
    return {"premises": premises, "weaker": list(why), "plan_sha256": hashlib.sha256(text.encode()).hexdigest()}


async def save(settings: Settings, premises: str, path: Path, *, expected: int | None, dry_run: bool, alone: str) -> str:
    """Check a plan and keep it; what was done.

    Raises:
        ConfigError: with everything that is wrong with it.
        Refused: `unknown_premises`, `conflict`, or `second_person` where it protects less than the one before.
    """
    plan = check(await asyncio.to_thread(read, path), receivers_of(settings), str(path))
    async with who.opened(settings) as desk, office.opened(settings) as registry:
        plans = Responses(registry.database)
        before = await plans.get(premises)
        why = weaker(_plan(before), plan)
        if dry_run:
            told = [f"the plan of {premises} is sound", *(f"protects less: {one}" for one in why)]
            return "; ".join([*told, "it takes two admins" if why else "nothing was done"])
        if why and _differs(before, plan):
            await desk.second_person(ACTION, named(premises, plan, why), alone)
        kept = await plans.save(premises, plan, desk.by, expected)
        return f"the plan of {premises} has version {kept.version}"


async def remove(settings: Settings, premises: str, *, expected: int | None, alone: str) -> bool:
    """Forget a plan: immediate, every receiver; False when there is none. Raises Refused."""
    async with who.opened(settings) as desk, office.opened(settings) as registry:
        plans = Responses(registry.database)
        if (before := await plans.get(premises)) is None:
            return False
        if why := weaker(_plan(before), DEFAULT):
            await desk.second_person(ACTION, named(premises, DEFAULT, why), alone)
        return await plans.remove(premises, desk.by, expected)


async def show(settings: Settings, premises: str) -> Row:
    """The plan of a premises as it is now. Raises Refused `unknown_premises`."""
    async with office.opened(settings) as registry:
        kept = await Responses(registry.database).get(premises)
    if kept is None:
        return {"premises": premises, "version": 0, **msgspec.to_builtins(DEFAULT)}
    return plain(kept)


async def listed(settings: Settings) -> list[Row]:
    """Every plan, a row each."""
    async with office.opened(settings) as registry:
        plans = await Responses(registry.database).all()
    return [_row(kept) for kept in plans.values()]


async def history(settings: Settings, premises: str) -> list[Row]:
    """The versions of a plan, the newest first."""
    async with office.opened(settings) as registry:
        plans = Responses(registry.database)
        await plans.get(premises)
        return [_row(kept) for kept in await plans.history(premises)]


def plain(kept: Kept) -> Row:
    """A kept plan as JSON. Raises Refused `unreadable`."""
    if kept.response is None:
        raise Refused("unreadable", f"version {kept.version} cannot be read by this iotcore: it counts as no plan; save it anew")
    return {"premises": kept.premises, "version": kept.version, **msgspec.to_builtins(kept.response)}


def _row(kept: Kept) -> Row:
    plan = kept.response
    return {
        "premises": kept.premises,
        "version": kept.version,
        "by": kept.by,
        "at": office.moment(kept.at_ms),
        "plan": "removed" if kept.removed else "unreadable" if plan is None else plan.profile,
        "delay_s": 0 if plan is None or plan.delay is None else plan.delay.t1_s + plan.delay.t2_s,
        "receivers": ",".join(plan.receivers) if plan else "",
        "numbers": len(plan.numbers) if plan else 0,
    }


def _plan(kept: Kept | None) -> Response:
    return DEFAULT if kept is None or kept.response is None else kept.response


def _differs(kept: Kept | None, plan: Response) -> bool:
    return kept is None or kept.response != plan
