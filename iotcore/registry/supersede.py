"""One certificate follows another: those before it end when the newer one is known to have connected, and not before.

A device that never says so (`provision/confirm.py`) keeps the old one until it runs out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.expressions import Q, Subquery

from iotcore.errors import Refused
from iotcore.registry.database import Writing
from iotcore.registry.tables import CertificateRow
from iotcore.registry.tables_certs import SupersededRow

AT_ONCE = 500  # serials in one query: SQLite takes 999 values everywhere


async def older(db: BaseDBAsyncClient, serial: str) -> list[str]:
    """The serials that end when the certificate `serial` has connected: issued before it, same name and anchor.

    Those that have run out too: a fire device could still raise alarms with one, and whoever has found it as well.

    Raises:
        Refused: `unknown_certificate`.
    """
    row = await CertificateRow.get_or_none(serial=serial, using_db=db)
    if row is None:
        raise Refused("unknown_certificate", f"no certificate {serial} was recorded")
    before = CertificateRow.filter(
        ~Q(serial__in=Subquery(SupersededRow.all().using_db(db).values("certificate_id"))),
        cn=row.cn,
        anchor=row.anchor,
        issued_ms__lt=row.issued_ms,
        revoked_ms=None,
    )
    return [one.serial for one in await before.using_db(db).order_by("issued_ms", "serial").only("serial")]


async def confirm(work: Writing, serial: str, by: str) -> list[str]:
    """The certificate `serial` has connected: mark those before it as superseded; which. A second time there are none.

    Raises:
        Refused: `unknown_certificate`.
    """
    ended = await older(work.db, serial)
    if not ended:
        return []
    row = await CertificateRow.get(serial=serial, using_db=work.db)
    for one in ended:
        await SupersededRow.create(using_db=work.db, certificate_id=one, newer=serial, at_ms=work.now_ms)
        work.note(by, "certificate.supersede", row.cn, serial=one, newer=serial)
    work.changed("certificate", row.cn)
    return ended


async def moments(db: BaseDBAsyncClient, serials: Collection[str]) -> dict[str, int]:
    """When each of `serials` that is superseded became so, ms UTC."""
    found: dict[str, int] = {}
    for some in _portions(serials):
        rows = await SupersededRow.filter(certificate_id__in=some).using_db(db)
        found |= {row.certificate_id: row.at_ms for row in rows}
    return found


def _portions(serials: Collection[str]) -> Iterable[list[str]]:
    wanted = sorted(serials)
    return (wanted[first : first + AT_ONCE] for first in range(0, len(wanted), AT_ONCE))
