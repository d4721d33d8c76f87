"""Disablements and walk tests, asked together."""

from __future__ import annotations

from collections.abc import Collection

from iotcore.registry import disablements, walks
from iotcore.registry.database import Database


async def unended(database: Database, ids: Collection[str]) -> frozenset[str]:
    """Which of these nobody has ended, whatever a follower has read so far. Raises StoreError."""
    async with database.reading() as db:
        return frozenset(await disablements.standing(db, ids)) | frozenset(await walks.standing(db, ids))
