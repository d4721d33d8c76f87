"""Signs of life to an outside monitor: what has to be well for one to be given."""

from __future__ import annotations

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.dispatch.deadman import DeadmanSwitch
from iotcore.keeper import Keeper
from iotcore.process.serve import beats
from iotcore.settings import Settings

TOLD = 5  # reasons in one line


def switch(settings: Settings, keeper: Keeper, clock: Clock) -> DeadmanSwitch:
    """The keeper's switch."""
    made = DeadmanSwitch(settings.deadman, lambda: wrong(settings, keeper, clock), clock)
    metrics.keeper_sign_age.ask(made.age_s)
    return made


def wrong(settings: Settings, keeper: Keeper, clock: Clock) -> list[str]:
    """Why no sign may be given: a fire would not be heard, or not told, or nobody would see to it."""
    said = {name: beat for name, beat in beats(settings.folder, clock).items() if name.partition("-")[0] == "fire"}
    reasons = [] if any(beat.get("connected") for beat in said.values()) else ["no fire process hears its broker"]
    state = keeper.state()
    reasons += [f"not delivered: {notice}" for notice in state["overdue"][:TOLD]]
    return reasons + [f"stands still: {what}" for what in state["standing_still"][:TOLD]]
