"""Links by which the owner of a premises confirms or denies a fire: signed, without a login, good for a day, one answer.

    {public_url}/owner/INCIDENT/TOKEN        TOKEN = base64url of 128 bits of HMAC-SHA-256(key, "owner|" + INCIDENT)

Nothing of a link is stored: whoever has the key makes and checks it, so that the fire lane waits for no table. How old it is, the
incident's name says. The key is the registry's, drawn at its first use.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime

from iotcore.registry.database import Database, whole
from iotcore.registry.tables_acts import OwnerKeyRow

LASTS_MS = 24 * 3_600_000.0
KEY_BYTES = 32
TOKEN_BYTES = 16  # 128 bits
INCIDENT = re.compile(r"F(\d{8}-\d{6})-[0-9A-F]{6}")


class OwnerLinks:
    """The registry's key. All methods raise StoreError when the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def key(self) -> bytes:
        """The key; drawn when there is none yet."""
        async with self._database.reading() as db:
            row = await OwnerKeyRow.get_or_none(id=1, using_db=db)
        if row is None:
            async with self._database.writing() as work:
                row = await OwnerKeyRow.get_or_none(id=1, using_db=work.db)
                if row is None:
                    made = secrets.token_hex(KEY_BYTES)
                    row = await OwnerKeyRow.create(using_db=work.db, id=1, key=made, made_ms=work.now_ms)
                    work.note("registry", "owner_key.make", "owner links")
        return bytes.fromhex(row.key)


def token(key: bytes, incident: str) -> str:
    """The last part of an incident's link."""
    digest = hmac.new(key, f"owner|{incident}".encode(), hashlib.sha256).digest()[:TOKEN_BYTES]
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def path(key: bytes, incident: str) -> str:
    """The link without the host."""
    return f"/owner/{incident}/{token(key, incident)}"


def good(key: bytes, incident: str, shown: str, now_ms: float) -> bool:
    """Whether a link is one of ours, and not a day old."""
    found = INCIDENT.fullmatch(incident)
    if found is None or not hmac.compare_digest(token(key, incident).encode(), shown.encode("utf-8", "replace")):
        return False
    try:
        made = datetime.strptime(found[1], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return False
    return now_ms < made.timestamp() * 1000.0 + LASTS_MS
