"""What the page and the API of fire rules do alike: check, ask a second admin, save, remove, and try on the past.

Who may see what: a rule of one device or premises is for whoever may see that place; all others are for everybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from iotcore.alarms import replay, rule_book, rule_saving, rule_text
from iotcore.alarms.replay import Evidence, Firing, Groups, Note, Replay
from iotcore.alarms.rule_book import Kept, Trouble
from iotcore.alarms.rule_saving import Checked, Known
from iotcore.alarms.rules import Rule
from iotcore.errors import ConfigError, Problem, Refused
from iotcore.registry.accounts import Accounts
from iotcore.registry.approvals import Approval
from iotcore.registry.directory import Binding
from iotcore.registry.rights import Right, Visitor
from iotcore.registry.rule_documents import Document, RuleStore, insist

DAY_MS = 86_400_000.0
TRIED_DAYS = 7.0
SHOWN = 20  # firings of a trial

Row = dict[str, Any]


class Following(Protocol):
    """What is asked of `process.ruled.Ruled`."""

    base: tuple[Rule, ...]
    in_use: Mapping[str, Kept]
    troubles: tuple[Trouble, ...]

    @property
    def unreadable(self) -> str:
        """Why the documents cannot be read now."""

    def version(self, key: str) -> int:
        """The version of a document as it is in the registry."""

    async def refresh(self) -> bool:
        """Look whether they have changed."""


class Trying(Protocol):
    """What is asked of `process.backtest`: the rules of an id out of some sets, over devices and a time, within bounds."""

    def __call__(
        self, of: str, sets: Sequence[Sequence[Rule]], devices: Sequence[Binding], span_ms: tuple[float, float]
    ) -> Awaitable[tuple[list[Replay], Evidence]]:
        """Try them."""


class Tried(NamedTuple):
    """How often a rule would have fired as it is in use, and as it was edited (None: it was not)."""

    days: float
    evidence: Evidence
    in_use: replay.Outcome
    edited: replay.Outcome | None
    notes: list[Note]

    @property
    def shown(self) -> list[Firing]:
        """The newest firings of the edited version, or of the one in use."""
        found = (self.edited or self.in_use).firings
        return sorted(found, key=lambda one: one.at_ms, reverse=True)[:SHOWN]


@dataclass(slots=True)
class RuleDesk:
    """`known()` is what rules may name; `two_person` whether a second admin is asked at all."""

    rules: Following
    store: RuleStore
    known: Callable[[], Known]
    groups: Groups
    accounts: Accounts
    two_person: bool
    trying: Trying
    now_ms: Callable[[], float]
    _trial: asyncio.Lock = field(default_factory=asyncio.Lock)

    def seen(self, visitor: Visitor) -> list[Kept]:
        """The rules in use that somebody may see."""
        return [one for one in self.rules.in_use.values() if self._may_see(one, visitor)]

    def one(self, key: str, visitor: Visitor) -> Kept | None:
        """A rule in use; None where there is none, or none that they may see."""
        found = self.rules.in_use.get(key)
        return found if found is not None and self._may_see(found, visitor) else None

    def trouble(self, key: str) -> str:
        """Why its document cannot be used; "" when it can."""
        return next((str(one) for one in self.rules.troubles if one.key == key), "")

    async def document(self, one: Kept) -> Any:
        """The rule as it was written."""
        if one.version and (found := await self.store.version(one.key, one.version)) is not None:
            return rule_text.body_of(found.body)
        return rule_book.plain(one.rule)

    async def save(self, documents: Sequence[tuple[str, Any]], expected: int | None, visitor: Visitor) -> list[Document]:
        """Check a document and keep it; the new version, nothing when it is as it was.

        Raises:
            ConfigError: with everything that is wrong.
            Refused: `conflict`, `too_many`, `second_person` when another admin was asked, or `no_admin`.
        """
        known = self.known()
        found = rule_saving.check(documents, known)
        for key in found:
            if expected is not None:
                insist(key, self.rules.version(key), expected)
        dangerous = rule_saving.weakens({key: one.rule for key, one in found.items()}, known)
        if dangerous:
            await self._second_person("rule.save", rule_text.asked_of_another(found, dangerous, known), visitor)
        versions = {} if expected is None else dict.fromkeys(found, expected)
        made = await self.store.save({key: one.body for key, one in found.items()}, visitor.by, versions)
        await self.rules.refresh()
        return made

    async def remove(self, key: str, expected: int | None, visitor: Visitor) -> Document | None:
        """Forget a document; raises like `save`."""
        if problems := rule_saving.removable(key, self.known()):
            raise ConfigError(problems)
        version = self.rules.version(key)
        if expected is not None:
            insist(key, version, expected)
        await self._second_person("rule.remove", {"rule": key, "version": version}, visitor)
        gone = await self.store.remove(key, visitor.by, expected)
        await self.rules.refresh()
        return gone

    def checked(self, documents: Sequence[tuple[str, Any]]) -> Checked:
        """One document that could be saved.

        Raises:
            ConfigError: with everything that is wrong.
        """
        (one, *more) = rule_saving.check(documents, self.known()).values()
        if more:
            raise ConfigError([Problem("rules", "", "is more than one rule; give one")])
        return one

    async def tried(self, edited: Checked | None, key: str, days: float, visitor: Visitor) -> Tried:
        """A rule over the last days, beside its edited version; of the devices that the visitor may see. One at a time.

        Raises:
            Refused: `busy` while another is tried.
            QueryError: the store does not answer.
        """
        if self._trial.locked():
            raise Refused("busy", "another rule is tried now; ask again in a few seconds")
        async with self._trial:
            known = self.known()
            kept = edited or known.in_use[key]
            now = [one.rule for one in known.in_use.values()]
            sets = [now]
            if edited is not None:
                sets.append([one.rule for one in {**known.in_use, edited.key: Kept(edited.key, edited.rule)}.values()])
            there = [one for one in known.directory.devices.values() if visitor.may(Right.SEE, self._areas(one.premises))]
            devices = replay.covered([kept.rule], there, self.groups)
            span_ms = (self.now_ms() - days * DAY_MS, self.now_ms())
            replays, evidence = await self.trying(kept.rule.id, sets, devices, span_ms)
        rules = [rule for rules in sets for rule in rules if rule.id == kept.rule.id]
        notes = replay.notes(evidence, rules, span_ms[0], stored=True)
        return Tried(days, evidence, replays[0].outcome, replays[1].outcome if edited is not None else None, notes)

    async def _second_person(self, action: str, arguments: dict[str, object], visitor: Visitor) -> None:
        if not self.two_person or not await self.accounts.people.anybody():
            return
        if await self.accounts.approvals.take(action, arguments, visitor.user) is None:
            asked: Approval = await self.accounts.approvals.ask(action, arguments, visitor.user)
            detail = f"this may lower protection: another admin must say yes to number {asked.id} within a day (/approvals)"
            raise Refused("second_person", f"{detail}; then do the same again")

    def _may_see(self, one: Kept, visitor: Visitor) -> bool:
        rule = one.rule
        if not (rule.device or rule.premises):
            return True
        devices = self.known().directory.devices
        premises = rule.premises or (devices[rule.device].premises if rule.device in devices else "")
        return visitor.may(Right.SEE, self._areas(premises))

    def _areas(self, premises: str) -> frozenset[str]:
        return self.known().directory.areas_of(premises)
