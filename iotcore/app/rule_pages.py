"""The pages of fire rules, over the registry's documents and the telemetry store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from iotcore.alarms.replay import Evidence, Replay
from iotcore.alarms.rule_saving import Known
from iotcore.alarms.rules import Rule
from iotcore.app.common import rules_of, specs_of
from iotcore.clock import Clock
from iotcore.process import backtest
from iotcore.process.backtest import Limits, Trial
from iotcore.process.grouped import Grouped
from iotcore.process.ruled import Ruled
from iotcore.registry.accounts import Accounts
from iotcore.registry.directory import Binding, Directory
from iotcore.registry.rule_documents import RuleStore
from iotcore.registry.store import Registry
from iotcore.settings import Settings
from iotcore.telemetry.query import Query
from iotcore.web.rule_desk import RuleDesk
from iotcore.web.rules import RulePages

LIMITS = Limits(readings=2_000_000, devices=200, seconds=20.0)  # of a trial that somebody waits for on a page
PAGE_ROWS = 20_000  # of a trial: its answer holds up the page of everybody else for some 10 ms


def ruled(settings: Settings, registry: Registry, clock: Clock) -> Ruled:
    """The rules, to be followed."""
    return Ruled(RuleStore(registry.database), rules_of(settings, {}), clock)


def pages(
    settings: Settings,
    rules: Ruled,
    registry: Registry,
    people: Accounts,
    *,
    directory: Callable[[], Directory],
    grouped: Grouped,
    query: Query,
    clock: Clock,
) -> RulePages:
    """The pages and the API."""
    specs = specs_of(settings)

    def known() -> Known:
        return Known(specs, directory(), grouped.groups, rules.base, rules.in_use)

    async def trying(
        of: str, sets: Sequence[Sequence[Rule]], devices: Sequence[Binding], span_ms: tuple[float, float]
    ) -> tuple[list[Replay], Evidence]:
        profile = directory().response
        trial = Trial(of, sets, devices, span_ms, grouped.members.of, lambda premises: profile(premises).profile)
        return await backtest.run(query, trial, clock, LIMITS, PAGE_ROWS)

    return RulePages(
        RuleDesk(
            rules=rules,
            store=RuleStore(registry.database),
            known=known,
            groups=grouped.members.of,
            accounts=people,
            two_person=settings.people.two_person,
            trying=trying,
            now_ms=clock.wall_ms,
        )
    )
