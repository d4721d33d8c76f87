"""Looking at the steps of a registry's schema and taking them by hand: what `iotcore registry` does."""

from __future__ import annotations

from typing import NamedTuple

from iotcore.clock import Clock
from iotcore.registry import migrations
from iotcore.registry.database import bare


class Standing(NamedTuple):
    """A step: when it was taken (ms UTC), or None; whether this code knows it."""

    number: int
    name: str
    at_ms: int | None
    known: bool


class Move(NamedTuple):
    """A step forward or back, and how many of what the way back loses."""

    number: int
    name: str
    forward: bool
    lost: dict[str, int]


async def standings(url: str) -> list[Standing]:
    """Every step that was taken or is due, by number; nothing is changed.

    Raises:
        StartError: the database cannot be opened.
    """
    async with bare(url) as (db, _):
        taken = {stamp.number: stamp for stamp in await migrations.stamps(db)}
    known = {step.number: step for step in migrations.STEPS}
    return [
        Standing(
            number, (taken.get(number) or known[number]).name, taken[number].at_ms if number in taken else None, number in known
        )
        for number in sorted({*taken, *known})
    ]


async def migrate(url: str, clock: Clock, to: int | None = None, *, dry_run: bool = False, lose_data: bool = False) -> list[Move]:
    """Go forward or back to step `to`, or to the newest; with `dry_run` only say what would be done.

    Raises:
        StartError: the registry is newer than this code, rows would be lost, or the database cannot be opened.
    """
    now_ms = int(clock.wall_ms())
    async with bare(url) as (db, schema):
        taken = await migrations.stamps(db)
        ahead = [Move(step.number, step.name, forward=True, lost={}) for step in migrations.due(taken, migrations.STEPS, to)]
        behind = [] if to is None else migrations.back(taken, migrations.STEPS, to)
        returns = [Move(step.number, step.name, forward=False, lost=await migrations.lost(db, step)) for step in behind]
        if not dry_run:
            if to is not None:
                await migrations.revert(db, schema, now_ms, migrations.STEPS, to, lose_data=lose_data)
            await migrations.apply(db, schema, now_ms, migrations.STEPS, to)
    return [*returns, *ahead]
