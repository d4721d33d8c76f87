"""Fire replicas: what each is called, and what is its own. Every one hears and judges the whole stream.

    fire                        one process
    fire-1, fire-2 … fire-4     several: nothing fails over, for each has decided already; the journal makes their decisions one

A replica has its own certificate, and so its own session at the broker, its own emergency log and its own numbers there. On one
machine they share journal.db; with the journal in PostgreSQL each may run on a machine of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from iotcore.errors import StartError
from iotcore.settings import Settings


@dataclass(frozen=True, slots=True)
class Replica:
    """One of the fire processes of an installation; `number` counts from 1."""

    number: int
    alone: bool

    @property
    def name(self) -> str:
        """What its process is called."""
        return "fire" if self.alone else f"fire-{self.number}"

    @property
    def cn(self) -> str:
        """The name of its certificate for the fire broker; the session there is kept under it."""
        return f"svc.fire.{self.number}.in"

    def emergency_log(self, settings: Settings) -> Path:
        """Where its fires go when the journal does not take them."""
        folder = Path(settings.fire.emergency_folder) if settings.fire.emergency_folder else settings.folder
        return folder / f"emergency-{self.number}.log"


def replicas(settings: Settings) -> list[Replica]:
    """The fire processes that the settings ask for."""
    alone = settings.fire.replicas == 1
    return [Replica(number, alone) for number in range(1, settings.fire.replicas + 1)]


def replica(settings: Settings, number: int) -> Replica:
    """One of them.

    Raises:
        StartError: the settings do not ask for so many.
    """
    if not 1 <= number <= settings.fire.replicas:
        raise StartError(
            f"There is no fire replica {number}: the settings ask for {settings.fire.replicas}",
            "Set fire.replicas, or choose another with --worker.",
        )
    return Replica(number, settings.fire.replicas == 1)
