"""Claim tokens: 128 bits, kept as a hash, bound to one device, for a time, used once.

All functions run inside the caller's transaction.
"""

from __future__ import annotations

import hashlib
import secrets

from iotcore.errors import Refused
from iotcore.registry.database import Writing
from iotcore.registry.tables import DeviceRow, TokenRow

TOKEN_BYTES = 16  # 128 bits
ENROLLABLE = frozenset({"registered", "provisioned", "active"})


async def create(work: Writing, device: str, ttl_s: float, by: str) -> str:
    """A new token in clear text; only its hash is stored.

    Raises:
        Refused: `unknown_device`, or `not_enrollable`.
    """
    row = await DeviceRow.get_or_none(id=device, using_db=work.db)
    if row is None:
        raise Refused("unknown_device", f"{device!r} is not registered")
    if row.state not in ENROLLABLE:
        raise Refused("not_enrollable", f"{device!r} is {row.state}")
    token = secrets.token_urlsafe(TOKEN_BYTES)
    expires_ms = work.now_ms + int(ttl_s * 1000)
    await TokenRow.create(using_db=work.db, hash=_hash(token), device_id=device, expires_ms=expires_ms)
    work.note(by, "token.create", device, token=_hash(token), expires_ms=expires_ms)
    return token


async def use(work: Writing, token: str, device: str) -> bool:
    """Compare and set in one statement: whoever sees a row changed has won. A refusal is audited with its reason."""
    hashed = _hash(token)
    free = TokenRow.filter(hash=hashed, device_id=device, used_ms=None, expires_ms__gt=work.now_ms)
    won = await free.using_db(work.db).update(used_ms=work.now_ms) == 1
    if won:
        work.note(device, "token.use", device, token=hashed)
        return True
    row = await TokenRow.get_or_none(hash=hashed, using_db=work.db)
    if row is None:
        reason = "unknown"
    elif row.device_id != device:
        reason = "wrong_device"
    else:
        reason = "used" if row.used_ms is not None else "expired"
    work.note("unproven", "token.refuse", device, token=hashed, reason=reason)
    return False


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
