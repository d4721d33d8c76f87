"""Which certificates the registry wants refused, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from iotcore.clock import ManualClock
from iotcore.errors import Refused
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


async def test_what_a_newer_one_has_replaced_is_told_once_the_newer_one_has_connected(registry: Registry) -> None:
    moment = ManualClock(now_ms=CLOCK.wall_ms())
    for serial, anchor, days in (("e1", "fire", 90.0), ("e2", "field", 90.0), ("e3", "fire", 90.0), ("e4", "fire", 90.0)):
        CLOCK.advance(0.01)
        await registry.record_certificate(
            Certificate(serial, "gw-1", anchor, int(moment.wall_ms() + days * DAY_MS), "ab" * 32), BY
        )
    await give(registry, "e0", "d1")
    assert await told(registry) == {}
    assert await registry.confirm_certificate("e3", BY) == ["e1"], "the same anchor, older, and not the one still to be tried"
    assert await registry.confirm_certificate("e3", BY) == [], "said again"
    assert set(await told(registry)) == {"e1"}
    assert await registry.confirm_certificate("e4", BY) == ["e3"]
    shown = {one.serial: one.superseded_ms is not None for one in await registry.certificates("gw-1")}
    assert shown == {"e1": True, "e2": False, "e3": True, "e4": False}
    assert [await registry.refuses_certificate(serial) for serial in ("e1", "e2", "e3", "e4", "e0")] == [
        True, False, True, False, False,
    ]  # fmt: skip
    deeds = [entry.deed for entry in await registry.audit_entries() if entry.deed.action == "certificate.supersede"]
    assert [(deed.subject, deed.detail) for deed in deeds] == [
        ("gw-1", '{"newer":"e3","serial":"e1"}'), ("gw-1", '{"newer":"e4","serial":"e3"}'),
    ]  # fmt: skip
    with pytest.raises(Refused, match="unknown_certificate"):
        await registry.confirm_certificate("ffff", BY)


async def test_what_ran_out_before_the_new_certificate_connected_is_superseded_too(registry_url: str) -> None:
    clock = ManualClock()
    async with await open_registry(registry_url, clock) as registry:
        await registry.import_city(city(), SPECS, "test")
        await registry.record_certificate(Certificate("a1", "d1", "fire", int(clock.wall_ms()) + 1_000, "ff"), "test")
        clock.advance(60.0)
        await registry.record_certificate(Certificate("a2", "d1", "fire", int(clock.wall_ms()) + 90_000, "ff"), "test")
        assert not await registry.refuses_certificate("a1"), "as long as nobody knows that the new one works"
        assert await registry.confirm_certificate("a2", "est") == ["a1"]
        assert await registry.refuses_certificate("a1")
