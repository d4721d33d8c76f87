"""Acts that were denied, for the audit: who wanted what, and why not.

Of somebody who tries the same again and again the first of each minute is written down, with the count of those before: whoever
is signed in must not be able to fill the audit.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.registry.rights import Visitor

ACTION = "denied"
EVERY_S = 60.0
REMEMBERED = 1_000  # visitors and acts
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Denials:
    """`note(by, action, subject, detail)` writes an audit entry."""

    note: Callable[[str, str, str, str], Awaitable[None]]
    clock: Clock
    _lately: OrderedDict[tuple[str, str], tuple[float, int]] = field(default_factory=OrderedDict)

    async def tell(self, visitor: Visitor, act: str, subject: str, why: str) -> None:
        """Somebody was denied an act. A registry that does not answer keeps nobody from being denied."""
        metrics.web_denied.inc()
        now_s, key = self.clock.monotonic_s(), (visitor.by, f"{act} {subject}")
        since_s, count = self._lately.pop(key, (now_s - EVERY_S, 0))
        due = now_s - since_s >= EVERY_S
        self._lately[key] = (now_s, 0) if due else (since_s, count + 1)
        if len(self._lately) > REMEMBERED:
            self._lately.popitem(last=False)
        if not due:
            return
        try:
            await self.note(visitor.by, ACTION, subject, f"{act}: {why}" + (f" ({count} more before)" if count else ""))
        except StoreError as error:
            log.warning("%s was denied %s of %s; the audit does not have it: %s", visitor.by, act, subject, error)
