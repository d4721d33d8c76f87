"""What people do about enrolment: tokens, makers' batches, binding, approving. Each call is one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from iotcore.errors import ConfigError
from iotcore.registry import claims, requests, tokens
from iotcore.registry.database import Database, whole

TOLD_AT_ONCE = 2_000  # units in one transaction: it holds the registry's one writer lock for some 100 ms


class Enrolments:
    """An open registry's part that has to do with getting in; methods raise StoreError when the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def create_token(self, device: str, ttl_s: float, by: str, *, approval: bool = False) -> str:
        """See `tokens.create`."""
        async with self._database.writing() as work:
            return await tokens.create(work, device, ttl_s, by, approval=approval)

    @whole
    async def create_batch_token(self, batch: str, uses: int, ttl_s: float, by: str, *, approval: bool = False) -> str:
        """See `tokens.create_for_batch`."""
        async with self._database.writing() as work:
            return await tokens.create_for_batch(work, batch, uses, ttl_s, by, approval=approval)

    @whole
    async def revoke_token(self, id_: str, by: str) -> str:
        """See `tokens.revoke`."""
        async with self._database.writing() as work:
            return await tokens.revoke(work, id_, by)

    async def tokens(self, device: str = "", batch: str = "") -> list[tokens.TokenShown]:
        """See `tokens.listed`."""
        async with self._database.reading() as db:
            return await tokens.listed(db, device, batch)

    async def tell(
        self, batch: str, entries: Sequence[claims.UnitEntry], ttl_s: float, by: str, *, dry_run: bool = False
    ) -> tuple[int, int]:
        """Keep the units of a maker's batch, `TOLD_AT_ONCE` in a transaction; how many are new, and how many were known.

        The same list again changes nothing, and completes one that was cut off.

        Raises:
            ConfigError: with every unit that is known otherwise; nothing is stored.
        """
        async with self._database.reading() as db:
            new, problems = await claims.sorted_out(db, batch, entries)
        if problems:
            raise ConfigError(problems)
        if not dry_run:
            for first in range(0, len(new), TOLD_AT_ONCE):
                await self._tell(batch, new[first : first + TOLD_AT_ONCE], ttl_s, by)
        return len(new), len(entries) - len(new)

    @whole
    async def _tell(self, batch: str, entries: Sequence[claims.UnitEntry], ttl_s: float, by: str) -> None:
        async with self._database.writing() as work:
            await claims.tell(work, batch, entries, ttl_s, by)

    @whole
    async def bind(self, serial: str, device: str, by: str) -> bool:
        """See `claims.bind`."""
        async with self._database.writing() as work:
            return await claims.bind(work, serial, device, by)

    @whole
    async def release(self, serial: str, by: str, model: str = "") -> str:
        """See `claims.release`."""
        async with self._database.writing() as work:
            return await claims.release(work, serial, by, model)

    @whole
    async def revoke_unit(self, serial: str, by: str, model: str = "") -> None:
        """See `claims.revoke`."""
        async with self._database.writing() as work:
            await claims.revoke(work, serial, by, model)

    async def units(self, batch: str = "") -> list[claims.UnitShown]:
        """See `claims.listed`."""
        async with self._database.reading() as db:
            return await claims.listed(db, batch)

    async def requests(self) -> list[requests.EnrolmentRequest]:
        """See `requests.listed`."""
        async with self._database.reading() as db:
            return await requests.listed(db, self._database.now_ms())

    @whole
    async def decide(self, number: int, by: str, *, approve: bool, reason: str = "") -> str:
        """See `requests.decide`."""
        async with self._database.writing() as work:
            return await requests.decide(work, number, by, approve=approve, reason=reason)
