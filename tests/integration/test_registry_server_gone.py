"""A database server that goes down in the middle of whatever is asked: our own error, and no process ends for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from iotcore.errors import StoreError
from iotcore.registry.store import Registry, open_registry
from tests.support.postgres import Postgres

pytestmark = pytest.mark.timeout(60)
ASKING = 30


async def _ask(registry: Registry) -> BaseException:
    """Poll without a pause, as many processes do; what ends it."""
    while True:
        try:
            await registry.changes_after(0)
            await registry.note("test", "asked", "x")
        except StoreError as error:
            return error


async def test_whoever_asks_when_the_server_goes_down_gets_our_error() -> None:
    with Postgres() as server:
        async with await open_registry(server.url(server.fresh())) as registry:
            asking = [asyncio.create_task(_ask(registry)) for _ in range(ASKING)]
            await asyncio.sleep(0.2)
            await asyncio.to_thread(server.pause)
            async with asyncio.timeout(20.0):
                ends = await asyncio.gather(*asking, return_exceptions=True)
            assert {type(one) for one in ends} == {StoreError}


@pytest.mark.parametrize(
    "error", [asyncpg.InternalClientError("cannot switch to state 12"), asyncpg.CannotConnectNowError("down"), OSError(111, "x")]
)
async def test_what_the_driver_says_is_our_error(tmp_path: Path, error: Exception) -> None:
    async with await open_registry(f"sqlite://{tmp_path}/registry.db") as registry:
        with pytest.raises(StoreError):
            async with registry.database.reading():
                raise error
