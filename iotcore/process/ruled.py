"""The rules in use, kept as the registry's documents say: for whoever evaluates them, within a second.

A document that this process cannot read (made by another release, or by hand) changes nothing: its last good version stays in
use, the one that this process had or the newest good one of its history, and the log, `doctor` and the page say so. All other
documents are followed. When the registry does not answer, the rules stay as they are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iotcore.alarms.rule_book import Kept, Trouble, book, stored
from iotcore.alarms.rules import Rule
from iotcore.clock import Clock
from iotcore.errors import ConfigError, IotError
from iotcore.registry.rule_documents import Document, RuleStore

POLL_S = 0.2  # wire contract, Changes
RETRY_S = 2.0
WHOLE_S = 60.0  # between two looks at everything: what somebody wrote by hand left no change to follow
EARLIER = 20  # versions of a document that are tried
SHOWN = 10  # troubles that a beat tells
log = logging.getLogger(__name__)
Use = Callable[[tuple[Rule, ...]], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class _Read:
    """What became of one document."""

    document: Document
    kept: Kept | None
    trouble: Trouble | None


class Ruled:
    """`in_use` are the rules by key."""

    def __init__(self, store: RuleStore, base: Sequence[Rule], clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._seen = -1
        self._whole_s = 0.0
        self._read: dict[str, _Read] = {}
        self._unreadable = ""
        self.base = tuple(base)
        self.in_use: Mapping[str, Kept] = book(base, ())
        self.troubles: tuple[Trouble, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What the engine is given."""
        return tuple(one.rule for one in self.in_use.values())

    @property
    def unreadable(self) -> str:
        """Why the documents cannot be read now; "" when they can."""
        return self._unreadable

    def version(self, key: str) -> int:
        """The version of a document as it is in the registry, whether it can be used or not; 0 when there is none."""
        return self._read[key].document.version if key in self._read else 0

    async def refresh(self) -> bool:
        """Read the documents if any has changed; whether the rules are others by it."""
        now_s = self._clock.monotonic_s()
        if self._seen >= 0 and now_s - self._whole_s < WHOLE_S:
            seen, changed = await self._store.changed_after(self._seen)
            if not changed:
                self._seen = seen
                return False
        else:
            seen = await self._store.last_change()
        documents = await self._store.all()
        found = await asyncio.to_thread(self._look, documents)
        for key, one in found.items():
            if one.kept is None and one.trouble is not None:
                found[key] = await self._earlier(one)
        self._tell(found)
        self._read, self._seen, self._whole_s = found, seen, now_s
        before = self.rules
        self.in_use = book(self.base, [one.kept for one in found.values() if one.kept is not None])
        self.troubles = tuple(one.trouble for one in found.values() if one.trouble is not None)
        return self.rules != before

    async def start(self) -> None:
        """The first look. A registry that does not answer keeps no fire waiting: the base's rules are in use until it does."""
        await self._once(lambda _: None)

    async def run(self, use: Use = lambda _: None, poll_s: float = POLL_S) -> None:
        """Refresh until cancelled, and hand over the rules whenever they have changed; a registry that fails is asked again."""
        while True:
            if not await self._once(use):
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(poll_s)

    async def _once(self, use: Use) -> bool:
        """Refresh; False when the registry does not answer, which is said once."""
        try:
            if await self.refresh():
                done = use(self.rules)
                if done is not None:
                    await done
        except IotError as error:
            if not self._unreadable:
                log.error("the fire rules cannot be read; those in use stay: %s", error)  # noqa: TRY400 - an outage
            self._unreadable = str(error)
            return False
        self._unreadable = ""
        return True

    def state(self) -> dict[str, Any]:
        """What the process's beat says of its rules."""
        told = [str(one) for one in self.troubles[:SHOWN]]
        return {"rules": len(self.in_use), **({"rule_troubles": told} if told else {})}

    def _look(self, documents: Mapping[str, Document]) -> dict[str, _Read]:
        """Read what has changed. A good version that is in use stays where the new one cannot be read."""
        found: dict[str, _Read] = {}
        for key, document in documents.items():
            known = self._read.get(key)
            if known is not None and known.document == document:
                found[key] = known
                continue
            try:
                rule = stored(key, document.body)
            except ConfigError as error:
                good = known.kept if known is not None else None
                reasons = tuple(str(problem) for problem in error.problems)
                trouble = Trouble(key, document.version, good.version if good is not None else 0, reasons)
                found[key] = _Read(document, good, trouble)
            else:
                kept = Kept(key, rule, "document", document.version, document.by, document.at_ms)
                found[key] = _Read(document, kept, None)
        return found

    async def _earlier(self, broken: _Read) -> _Read:
        """The newest good version of a document's history in place of one that cannot be read."""
        assert broken.trouble is not None
        key = broken.document.key
        for one in await self._store.versions(key, limit=EARLIER):
            if not one.body:  # what was before a removal does not come back
                break
            try:
                rule = stored(key, one.body)
            except ConfigError:
                continue
            kept = Kept(key, rule, "document", one.version, one.by, one.at_ms)
            return _Read(broken.document, kept, Trouble(key, broken.trouble.version, one.version, broken.trouble.problems))
        return broken

    def _tell(self, found: Mapping[str, _Read]) -> None:
        """Say each trouble once, and when it is over."""
        for key, one in found.items():
            before = self._read.get(key)
            was = before.trouble if before is not None else None
            if one.trouble is not None and one.trouble != was:
                log.critical("%s", one.trouble)
            elif one.trouble is None and was is not None:
                log.warning("rule %s can be used again: version %d", key, one.document.version)
