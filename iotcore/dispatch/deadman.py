"""The dead man's switch: a sign of life to an outside monitor, for as long as fires would be heard and told.

The monitor raises the alarm when signs stop: of all that can fail here, nothing has to work for that. A sign is one HTTP request
without a body that says anything; redirects are not followed, and it goes only where it may (`egress`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import aiohttp

from iotcore.clock import Clock
from iotcore.dispatch.egress import CheckedResolver, Egress
from iotcore.errors import DeliveryError
from iotcore.settings_deadman import Deadman

log = logging.getLogger(__name__)

REPLY_TIMEOUT_S = 10.0
FIRST_FAILURE = 400  # an HTTP status that says no


class DeadmanSwitch:
    """Signs every `interval_s` while `wrong` finds nothing. `state` is for the doctor."""

    def __init__(self, deadman: Deadman, wrong: Callable[[], Sequence[str]], clock: Clock) -> None:
        self._deadman = deadman
        self._wrong = wrong
        self._clock = clock
        self._egress = Egress(deadman.allow_http, deadman.allow_private)
        self.signed_ms: float | None = None
        self.withheld: Sequence[str] = ()
        self.failed = ""

    def age_s(self) -> float:
        """Seconds since the last sign that the monitor took; since ever: infinite."""
        return float("inf") if self.signed_ms is None else (self._clock.wall_ms() - self.signed_ms) / 1000.0

    async def run(self) -> None:
        """Sign until cancelled."""
        resolver = CheckedResolver(self._egress)
        connector = aiohttp.TCPConnector(resolver=resolver, force_close=True)
        timeout = aiohttp.ClientTimeout(total=REPLY_TIMEOUT_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
            while True:
                await self.sign(session)
                await asyncio.sleep(self._deadman.interval_s)

    async def sign(self, session: aiohttp.ClientSession) -> bool:
        """One sign, or the reasons why there is none; whether the monitor took it."""
        withheld, before = self._wrong(), self.withheld
        self.withheld = withheld
        if withheld:
            if not before:
                log.critical("no sign of life is given to the outside monitor: %s", "; ".join(withheld))
            return False
        try:
            self._egress.check(self._deadman.url)
            async with session.post(self._deadman.url, allow_redirects=False) as answer:
                failed = f"HTTP {answer.status}" if answer.status >= FIRST_FAILURE else ""
        except (DeliveryError, aiohttp.ClientError, TimeoutError, OSError) as error:
            failed = str(error) or type(error).__name__
        if failed and failed != self.failed:
            log.error("the outside monitor did not take our sign of life: %s", failed)
        self.failed = failed
        if not failed:
            self.signed_ms = self._clock.wall_ms()
        return not failed
