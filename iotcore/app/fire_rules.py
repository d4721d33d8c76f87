"""What the fire rules ask of the registry: their documents, who is in which group; and a loud word where a scope is not there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from iotcore.alarms import rules as fire_rules
from iotcore.alarms.engine import Engine
from iotcore.clock import Clock
from iotcore.errors import IotError
from iotcore.process.grouped import Grouped
from iotcore.process.ruled import Ruled
from iotcore.registry.directory import Directory
from iotcore.registry.groups import GroupStore
from iotcore.registry.rule_documents import RuleStore
from iotcore.registry.store import Registry
from iotcore.settings import Settings
from iotcore.telemetry import reported

PRESENCE = "telemetry.db"  # the telemetry worker's file, where it notes what devices report
log = logging.getLogger(__name__)


async def grouped(settings: Settings, registry: Registry, directory: Callable[[], Directory], clock: Clock) -> Grouped:
    """Who is in which group, read once; `run` of it goes on. A registry that does not answer keeps no fire waiting."""
    found = Grouped(GroupStore(registry.database), directory, lambda: reported.firmware(settings.folder / PRESENCE), clock)
    try:
        await found.refresh()
    except IotError as error:
        log.error("groups cannot be read yet, and rules of a group cover nothing: %s", error)  # noqa: TRY400 - asked again soon
    return found


async def documents(registry: Registry, base: Sequence[fire_rules.Rule], clock: Clock) -> Ruled:
    """The rules of the file with the registry's documents over them, read once; `run` of it goes on."""
    found = Ruled(RuleStore(registry.database), base, clock)
    await found.start()
    return found


def engine_of(rules: Sequence[fire_rules.Rule], directory: Callable[[], Directory], members: Grouped) -> Engine:
    """An engine with the plans of all devices made: no first reading of a large panel has to wait for them."""
    engine = Engine(rules, members.members.of, lambda premises: directory().response(premises).profile)
    engine.use(rules, directory().devices.values())
    return engine


def using(
    engine: Engine, directory: Callable[[], Directory], members: Grouped
) -> Callable[[Sequence[fire_rules.Rule]], Awaitable[None]]:
    """What is done with rules that have changed."""

    async def use(rules: Sequence[fire_rules.Rule]) -> None:
        await asyncio.to_thread(engine.use, rules, list(directory().devices.values()))
        log.warning("%d fire rules are in use now", len(rules))
        warn_of_unknown(rules, directory(), members)

    return use


def warn_of_unknown(rules: Sequence[fire_rules.Rule], directory: Directory, members: Grouped) -> None:
    """Say which rules cover nothing, for what they name is not there."""
    for problem in fire_rules.unknown(rules, directory.devices, directory.premises, members.groups):
        log.critical("fire rule: %s", problem)
