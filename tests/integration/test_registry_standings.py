"""Which certificates the registry wants refused, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from iotcore.clock import ManualClock
from iotcore.registry.records import Certificate
from iotcore.registry.store import Registry, open_registry
from tests.support.postgres import Postgres
from tests.support.registered import SPECS, city

BY = "test"
CLOCK = ManualClock(now_ms=1_800_000_000_000.0)
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
async def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Registry]:
    url = f"sqlite://{tmp_path / 'registry.db'}"
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.url(server.fresh())
    async with await open_registry(url, CLOCK) as opened:
        await opened.import_city(city(), SPECS, BY)
        yield opened


async def give(registry: Registry, serial: str, cn: str, days: float = 90.0) -> None:
    until = int(CLOCK.wall_ms() + days * DAY_MS)
    await registry.record_certificate(Certificate(serial, cn, "fire", until, "ab" * 32), BY)
    await registry.activate(cn, BY)


async def told(registry: Registry, *serials: str) -> dict[str, tuple[str, bool]]:
    found = await registry.standings(serials)
    return {one.certificate.serial: (one.state, one.certificate.revoked_ms is not None) for one in found}


async def test_what_is_wanted_out_is_told_and_nothing_else(registry: Registry) -> None:
    for serial, device in (("a1", "d1"), ("a2", "d2"), ("a3", "d3"), ("a4", "d4"), ("a5", "svc.fire.1.in")):
        await give(registry, serial, device)
    assert await told(registry) == {}
    await registry.set_state("d1", "suspended", BY)
    await registry.set_state("d2", "suspended", BY)
    await registry.set_state("d2", "retired", BY)
    await registry.revoke_certificate("a3", BY)
    await registry.revoke_certificate("a5", BY)
    expected = {"a1": ("suspended", False), "a2": ("retired", False), "a3": ("active", True), "a5": ("", True)}
    assert await told(registry) == expected
    assert await told(registry, "a4", "nobody-knows-it") == {**expected, "a4": ("active", False)}
    await registry.set_state("d1", "active", BY)
    assert "a1" not in await told(registry)


async def test_what_has_run_out_needs_no_list_but_is_told_of_when_it_is_asked_for(registry: Registry) -> None:
    await give(registry, "b1", "d1", days=-1.0)
    await registry.set_state("d1", "suspended", BY)
    assert await told(registry) == {}
    assert await told(registry, "b1") == {"b1": ("suspended", False)}


async def test_more_serials_than_one_query_takes(registry: Registry) -> None:
    for i in range(3):
        await give(registry, f"c{i}", f"d{i + 1}")
    many = [f"f{i}" for i in range(1_200)]
    assert set(await told(registry, *many, "c0", "c1", "c2")) == {"c0", "c1", "c2"}
