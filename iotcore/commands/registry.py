"""`iotcore registry status|migrate`: at which step the registry's schema is, and going on or back."""

from __future__ import annotations

from iotcore.clock import Clock
from iotcore.commands.office import moment
from iotcore.errors import StartError
from iotcore.process import home
from iotcore.registry import upgrade
from iotcore.settings import Settings


async def status(settings: Settings) -> list[upgrade.Standing]:
    """Every step, taken or due; nothing is changed. Raises StartError."""
    return await upgrade.standings(_url(settings))


async def migrate(settings: Settings, clock: Clock, to: int | None, *, dry_run: bool, lose_data: bool) -> list[upgrade.Move]:
    """Go to step `to`, or to the newest; raises StartError, for instance where rows would be lost."""
    if to is None or dry_run:
        return await upgrade.migrate(_url(settings), clock, to, dry_run=dry_run)
    with home.claimed(settings.folder):  # a platform that runs would meet tables that it does not know
        return await upgrade.migrate(_url(settings), clock, to, lose_data=lose_data)


def _url(settings: Settings) -> str:
    if not settings.registry.url and not (settings.folder / "registry.db").exists():
        raise StartError(f"There is no registry in {settings.folder} yet", "Name the right settings with --config.")
    return settings.registry_url


def status_line(step: upgrade.Standing) -> str:
    """A step for a person."""
    if not step.known:
        said = "taken by a newer iotcore; this one does not open the registry"
    elif step.at_ms is None:
        said = "due: the next process that opens the registry takes it"
    else:
        said = f"taken {moment(step.at_ms)}"
    return f"{step.number:>4}  {step.name:<16}{said}"


def move_line(move: upgrade.Move, *, dry_run: bool) -> str:
    """A step forward or back for a person."""
    done = ("would be taken" if move.forward else "would be undone") if dry_run else ("taken" if move.forward else "undone")
    losing = ", ".join(f"{number} {what}" for what, number in move.lost.items())
    return f"{move.number:>4}  {move.name:<16}{done}" + (f"; lost: {losing}" if losing else "")
