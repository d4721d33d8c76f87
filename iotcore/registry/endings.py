"""Whose certificates run out: of each device that may speak, the one that lasts longest, for each anchor."""

from __future__ import annotations

from dataclasses import dataclass

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.expressions import Q, Subquery
from tortoise.functions import Max

from iotcore.registry.directory import ACCEPTED_STATES
from iotcore.registry.tables import CertificateRow, DeviceRow
from iotcore.registry.tables_certs import SupersededRow

MOST = 10_000  # a city whose renewals have failed for weeks: so many are told, the first to run out first


@dataclass(frozen=True, slots=True)
class Ending:
    """A device's last certificate of an anchor, and when it runs out (ms UTC)."""

    device: str
    anchor: str
    until_ms: int


async def before(db: BaseDBAsyncClient, until_ms: int) -> list[Ending]:
    """Those that run out before `until_ms`, or have, the first first; at most `MOST`."""
    devices = DeviceRow.filter(state__in=ACCEPTED_STATES).using_db(db).values("id")
    replaced = SupersededRow.all().using_db(db).values("certificate_id")
    counting = CertificateRow.filter(~Q(serial__in=Subquery(replaced)), cn__in=Subquery(devices), revoked_ms=None).using_db(db)
    rows = (
        await counting.annotate(last=Max("not_after_ms"))
        .group_by("cn", "anchor")
        .filter(last__lt=until_ms)
        .order_by("last", "cn")
        .limit(MOST)
        .values("cn", "anchor", "last")
    )
    return [Ending(row["cn"], row["anchor"], row["last"]) for row in rows]
