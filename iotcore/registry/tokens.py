"""Claim tokens: 128 bits, kept as a hash, for one device or for so many units of a batch, for a time, each use once.

All functions but the plain reads run inside the caller's transaction.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tortoise.backends.base.client import BaseDBAsyncClient

from iotcore.errors import Refused
from iotcore.registry import fresh
from iotcore.registry.database import Writing
from iotcore.registry.tables import DeviceRow, TokenRow
from iotcore.registry.tables_enrolment import BatchTokenRow, ClaimRow

TOKEN_BYTES = 16  # 128 bits
SHOWN = 12  # characters of a hash that name a token to people
MAX_USES = 100_000  # of a batch's token
ENROLLABLE = frozenset({"registered", "provisioned", "active"})


@dataclass(frozen=True, slots=True)
class TokenShown:
    """What may be known of a token: `id` is the beginning of its hash. `device` or `batch` is whom it is for. Times: ms UTC."""

    id: str
    device: str
    batch: str
    uses: int
    used: int
    expires_ms: int
    revoked_ms: int | None
    approval: bool

    def is_open(self, now_ms: float) -> bool:
        """Whether it could still be used."""
        return self.revoked_ms is None and self.used < self.uses and now_ms < self.expires_ms


async def create(work: Writing, device: str, ttl_s: float, by: str, *, approval: bool = False) -> str:
    """A new token in clear text; only its hash is stored.

    Raises:
        Refused: `unknown_device`, or `not_enrollable`.
    """
    row = await DeviceRow.get_or_none(id=device, using_db=work.db)
    if row is None:
        raise Refused("unknown_device", f"{device!r} is not registered")
    if row.state not in ENROLLABLE:
        raise Refused("not_enrollable", f"{device!r} is {row.state}")
    token = fresh.secret(TOKEN_BYTES)
    expires_ms = _until(work, ttl_s)
    hashed = hash_of(token)
    await TokenRow.create(using_db=work.db, hash=hashed, device_id=device, expires_ms=expires_ms, approval=approval)
    work.note(by, "token.create", device, token=hashed, expires_ms=expires_ms, **_when(approval=approval))
    return token


async def create_for_batch(work: Writing, batch: str, uses: int, ttl_s: float, by: str, *, approval: bool = False) -> str:
    """A new token for `uses` units of a batch, each once.

    Raises:
        Refused: `unknown_batch`, or `uses`.
    """
    if not 1 <= uses <= MAX_USES:
        raise Refused("uses", f"a token of a batch is good for 1 to {MAX_USES} units, not for {uses}")
    if not await ClaimRow.filter(batch=batch).using_db(work.db).exists():
        raise Refused("unknown_batch", f"no unit of a batch {batch!r} is known; `iotcore token batch FILE.csv` tells of them")
    token = fresh.secret(TOKEN_BYTES)
    expires_ms = _until(work, ttl_s)
    hashed = hash_of(token)
    await BatchTokenRow.create(using_db=work.db, hash=hashed, batch=batch, uses=uses, expires_ms=expires_ms, approval=approval)
    work.note(by, "token.create", batch, token=hashed, expires_ms=expires_ms, uses=uses, **_when(approval=approval))
    return token


async def revoke(work: Writing, id_: str, by: str) -> str:
    """Take a token back that was not used up; whom it was for.

    Raises:
        Refused: `unknown_token`, `ambiguous`, or `used` for one that is used up or revoked.
    """
    found: list[TokenRow | BatchTokenRow] = [
        *await TokenRow.filter(hash__startswith=id_).using_db(work.db).limit(2),
        *await BatchTokenRow.filter(hash__startswith=id_).using_db(work.db).limit(2),
    ]
    if not found or not id_:
        raise Refused("unknown_token", f"no token is called {id_!r}; `iotcore token list` shows all")
    if len(found) > 1:
        raise Refused("ambiguous", f"several tokens begin with {id_!r}; give more of it")
    row = found[0]
    spent = row.used_ms is not None if isinstance(row, TokenRow) else row.used >= row.uses
    if spent or row.revoked_ms is not None:
        raise Refused("used", f"{id_} is {'used up' if spent else 'revoked already'}")
    table = TokenRow if isinstance(row, TokenRow) else BatchTokenRow
    await table.filter(hash=row.hash).using_db(work.db).update(revoked_ms=work.now_ms)
    subject = row.device_id if isinstance(row, TokenRow) else row.batch
    work.note(by, "token.revoke", subject, token=row.hash)
    return subject


async def listed(db: BaseDBAsyncClient, device: str = "", batch: str = "") -> list[TokenShown]:
    """Tokens, those that last longest first; of one device or batch, or all."""
    one = TokenRow.filter(device_id=device) if device else TokenRow.all()
    many = BatchTokenRow.filter(batch=batch) if batch else BatchTokenRow.all()
    found = []
    for row in () if batch else await one.using_db(db):
        used = int(row.used_ms is not None)
        found.append(TokenShown(row.hash[:SHOWN], row.device_id, "", 1, used, row.expires_ms, row.revoked_ms, bool(row.approval)))
    for whole in () if device else await many.using_db(db):
        of = (whole.batch, whole.uses, whole.used, whole.expires_ms, whole.revoked_ms)
        found.append(TokenShown(whole.hash[:SHOWN], "", *of, bool(whole.approval)))
    return sorted(found, key=lambda shown: (-shown.expires_ms, shown.id))


def hash_of(secret: str) -> str:
    """How a token or a unit's secret is kept: SHA-256 in hex. It has 128 random bits, so it needs no salt and no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _until(work: Writing, ttl_s: float) -> int:
    if not ttl_s > 0:
        raise Refused("ttl", f"a token is good for some time, not for {ttl_s:g} s")
    return work.now_ms + int(ttl_s * 1000)


def _when(**flags: bool) -> dict[str, bool]:
    """The flags that are set."""
    return {name: value for name, value in flags.items() if value}
