"""What devices say that they are set to goes from their status to the registry, off the lanes' road.

    lane ─► tell (in memory: the newest of each device) ─► a batch a second ─► registry, which keeps what is new

Nothing is lost with the process: a status is retained, and comes again with the next start.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from itertools import islice
from typing import NamedTuple

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.registry.audit import canonical
from iotcore.registry.configurations import Report
from iotcore.registry.places import Places
from iotcore.wire.arrival import Presence

MAX_WAITING_BYTES = 16 * 2**20  # of JSON; a configuration is some hundred bytes, so a whole city fits
KNOWN_DEVICES = 131_072  # about 150 bytes each; beyond it all are asked of the registry anew
AT_ONCE = 100  # reports in one transaction: others write to the registry too
EVERY_S = 30.0  # of one device: each change is an entry of the audit for ever
PAUSE_S = 1.0
RETRY_S = 2.0
log = logging.getLogger(__name__)


class _Waiting(NamedTuple):
    report: Report
    digest: bytes
    size: int


class _Told(NamedTuple):
    digest: bytes
    kept: bool
    at_s: float


class ConfigsBack:
    """One for each process with a lane. `every_s` is the least time between two changes of one device."""

    def __init__(self, places: Places, clock: Clock, *, every_s: float = EVERY_S) -> None:
        self._places = places
        self._clock = clock
        self._every_s = every_s
        self._waiting: dict[str, _Waiting] = {}
        self._bytes = 0
        self._told: dict[str, _Told] = {}
        self._news = asyncio.Event()
        self._full = False

    def tell(self, presence: Presence) -> None:
        """A device said it; the registry hears of it when it is new. Does not wait."""
        device, said = presence.device, presence.message.config
        if said is None:
            return
        try:
            text = canonical([said.version, said.body]).encode()
        except (ValueError, RecursionError) as error:
            self._refuse(device, f"it is no plain JSON: {error}", known=False)
            return
        self._forget(device)
        digest = hashlib.blake2b(text, digest_size=16).digest()
        told = self._told.get(device)
        if told is not None and told.kept and told.digest == digest:
            return
        if self._bytes + len(text) > MAX_WAITING_BYTES:
            metrics.config_reports.labels("dropped").inc()
            if not self._full:
                log.warning("%d reported configurations wait for the registry; no more are taken", len(self._waiting))
            self._full = True
            return
        report = Report(device, said.version, said.body, presence.publisher)
        self._waiting[device] = _Waiting(report, digest, len(text))
        self._bytes += len(text)
        self._news.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        failing = False
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                try:
                    await self._carry()
                    failing = False
                except StoreError as error:
                    if not failing:
                        log.warning("reported configurations wait for the registry: %s", error)
                    failing = True
                    await asyncio.sleep(RETRY_S)
                await asyncio.sleep(min(PAUSE_S, self._every_s))

    async def _carry(self) -> None:
        """A batch of those whose turn it is; whatever is said meanwhile stays."""
        now_s = self._clock.monotonic_s()
        due = (one for device, one in self._waiting.items() if self._due(device, now_s))
        batch = list(islice(due, AT_ONCE))
        if not batch:
            return
        refused = await self._places.report_all([one.report for one in batch])
        for one in batch:
            device = one.report.device
            before = self._told.get(device)
            if (why := refused.get(device)) is not None:
                self._refuse(device, str(why), known=before is not None and before.digest == one.digest)
            else:
                metrics.config_reports.labels("kept").inc()
            if self._waiting.get(device) is one:
                self._forget(device)
            if len(self._told) >= KNOWN_DEVICES:
                self._told.clear()
            self._told[device] = _Told(one.digest, why is None, now_s)
        self._full = False

    def _due(self, device: str, now_s: float) -> bool:
        told = self._told.get(device)
        return told is None or now_s - told.at_s >= self._every_s

    def _forget(self, device: str) -> None:
        if (one := self._waiting.pop(device, None)) is not None:
            self._bytes -= one.size

    def _refuse(self, device: str, why: str, *, known: bool) -> None:
        metrics.config_reports.labels("refused").inc()
        if not known:
            log.warning("the configuration that %s reported is not kept: %s", device, why)
