"""The keeper's part in the audit: sign the head of the chain every hour and append it where the settings say."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import IotError, StoreError
from iotcore.process.credentials import environment
from iotcore.provision import custody, heads
from iotcore.provision.files import make_folder
from iotcore.registry.audit import Head
from iotcore.registry.store import Registry
from iotcore.settings import Settings

EXPORT_S = 3_600.0  # what was changed and nobody exported since can be rewritten unseen
RETRY_S = 60.0
log = logging.getLogger(__name__)


class AuditChanged(StoreError):
    """The chain does not hold the head that was exported last."""


@dataclass(slots=True)
class _Seen:
    """What Prometheus is told: 1.0 while the chain does not hold what was exported; when the last head was. NaN: not known."""

    changed: float = math.nan
    exported_ms: float = math.nan


def key_folder(settings: Settings) -> Path:
    """Where the key that signs heads is, and its public half."""
    return settings.folder / "audit"


async def run(settings: Settings, registry: Registry, clock: Clock) -> None:
    """Export at the start and every hour, until cancelled; what fails is said and tried again a minute later."""
    seen = _Seen()
    metrics.audit_changed.ask(lambda: seen.changed)
    metrics.audit_head_age.ask(lambda: (clock.wall_ms() - seen.exported_ms) / 1000.0)
    while True:
        pause_s = EXPORT_S
        try:
            await export(settings, registry, clock)
            seen.changed, seen.exported_ms = 0.0, clock.wall_ms()
        except AuditChanged:
            seen.changed = 1.0
            log.exception("the head of the audit is not exported")
            pause_s = RETRY_S
        except IotError:
            log.exception("the head of the audit could not be exported")
            pause_s = RETRY_S
        await asyncio.sleep(pause_s)


async def export(settings: Settings, registry: Registry, clock: Clock) -> heads.SignedHead:
    """Sign the head as it is now and append it.

    Raises:
        AuditChanged: the chain does not hold what was exported last: a rewritten chain gets no signature of ours.
        StartError: the key cannot be opened.
    """
    signer = await asyncio.to_thread(_signer, settings)
    path = make_folder(settings.heads_folder) / heads.HEADS_FILE
    if path.exists():
        exported = await asyncio.to_thread(heads.read, path, signer.key.public_key())
        for problem in exported.problems:
            log.error("the exported heads of the audit: %s", problem)
        if exported.heads and not await registry.audit_holds(_latest(exported.heads)):
            log.critical("THE AUDIT WAS CHANGED since its head was exported: run `iotcore audit verify --head %s`", path)
            raise AuditChanged(f"the audit does not hold the head that was exported last ({path})")
    line = signer.sign(await registry.audit_head(), clock.wall_ms())
    await asyncio.to_thread(heads.append, path, line)
    return line


def _signer(settings: Settings) -> heads.Signer:
    secret = custody.passphrase(settings.folder / "ca", environment(os.environ))
    return heads.Signer.ensure(key_folder(settings), secret)


def _latest(exported: list[heads.SignedHead]) -> Head:
    return max(exported, key=lambda one: one.seq).head
