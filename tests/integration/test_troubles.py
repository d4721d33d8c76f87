"""Certificates that run out, from the registry to page, log and doctor; SQLite and PostgreSQL where rows are asked."""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from pathlib import Path

import pytest

from drivers.mqtt.canonical import decode
from iotcore.alarms import rules
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.app import troubles
from iotcore.clock import ManualClock
from iotcore.commands.doctor import _device_certificates
from iotcore.journal.journal import Journal
from iotcore.registry.endings import Ending
from iotcore.registry.records import Certificate
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import check
from iotcore.web.view import StoredView
from tests.integration.test_fire_lane import directory as fire_directory
from tests.support.listed import ListBroker
from tests.support.registered import SPECS, city

NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000


async def give(registry: Registry, serial: str, cn: str, days: float, anchor: str = "fire") -> None:
    await registry.record_certificate(Certificate(serial, cn, anchor, int(NOW_MS + days * DAY_MS), "ab" * 32), "test")


async def test_of_each_device_the_last_certificate_counts(registry_url: str) -> None:
    clock = ManualClock(now_ms=NOW_MS)
    async with await open_registry(registry_url, clock) as registry:
        await registry.import_city(city(), SPECS, "test")
        await give(registry, "a1", "d1", 3.0)
        await give(registry, "a2", "d1", 80.0)  # renewed in time
        await give(registry, "b1", "d2", 5.0)
        await give(registry, "c1", "d3", -1.0)
        await give(registry, "d1", "d4", -2.0)
        await give(registry, "e1", "svc.fire.1.in", 1.0)  # a service: looked at elsewhere
        await give(registry, "f1", "gw-1", 60.0, "field")
        await give(registry, "f2", "gw-1", 2.0, "fire")
        for state in ("active", "suspended"):
            await registry.set_state("d4", state, "test")
        until_ms = NOW_MS + 14 * DAY_MS
        found = await registry.certificates_ending(until_ms)
        assert [(one.device, one.anchor) for one in found] == [("d3", "fire"), ("gw-1", "fire"), ("d2", "fire")]
        clock.advance(1.0)
        await give(registry, "b2", "d2", 6.0)
        await registry.confirm_certificate("b2", "test")
        assert [one.until_ms for one in await registry.certificates_ending(until_ms) if one.device == "d2"] == [
            NOW_MS + 6 * DAY_MS
        ]
        await registry.revoke_certificate("a2", "test")
        assert "d1" in {one.device for one in await registry.certificates_ending(until_ms)}, "what is left of it runs out"


async def test_a_fire_device_s_fault_stands_on_its_page_until_it_has_renewed(tmp_path: Path) -> None:
    clock, here = ManualClock(now_ms=NOW_MS), fire_directory()
    with closing(Journal(tmp_path / "journal.db", clock, ["arc"])) as journal:
        lane = FireLane(
            broker=ListBroker(),
            decode=decode,
            directory=lambda: here,
            engine=Engine(rules.load(rules.default_path())),
            journal=journal,
            clock=clock,
            opened=lambda _: None,
            first_seen=lambda _: asyncio.sleep(0),
        )
        view = StoredView(tmp_path, lambda: here)

        def shown() -> dict[str, list[str]]:
            return {one["id"]: [fault["reason"] for fault in one["faults"]] for one in view.devices() if one["faults"]}

        ending = [Ending("sd-1", "fire", NOW_MS - 1), Ending("sd-2", "fire", NOW_MS + DAY_MS), Ending("gone", "fire", NOW_MS)]
        await lane.troubled(troubles.faults(ending, [], here, NOW_MS), troubles.FAMILY)
        assert shown() == {"sd-1": ["certificate_expired"], "sd-2": ["certificate_ending"]}
        rows = journal.connection.execute("SELECT count(*) FROM fault").fetchone()[0]
        await lane.troubled(troubles.faults(ending, [], here, NOW_MS), troubles.FAMILY)
        assert journal.connection.execute("SELECT max(count) FROM fault").fetchone()[0] == 1, "the same again is no news"
        clone = troubles.Clone("fire", "cp-1", ("10.0.0.1", "10.0.0.2"), NOW_MS)
        await lane.troubled(troubles.faults([], [clone], here, NOW_MS), troubles.FAMILY)
        assert shown() == {"cp-1": ["cloned"]}
        assert journal.connection.execute("SELECT count(*) FROM fault").fetchone()[0] == rows + 1, "their history stays"
        view.close()


def test_fire_devices_come_first_where_not_all_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(troubles, "MOST", 2)
    ending = [Ending("gw-1", "field", NOW_MS), Ending("sd-1", "fire", NOW_MS + 1), Ending("sd-2", "fire", NOW_MS + 2)]
    assert [device for device, _ in troubles.faults(ending, [], fire_directory(), NOW_MS)] == ["sd-1", "sd-2"]


async def test_the_keeper_says_each_once_and_the_doctor_who_is_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(now_ms=NOW_MS)
    settings = check({"data": str(tmp_path)}, "a test")
    async with await open_registry(settings.registry_url, clock) as registry:
        await registry.import_city(city(), SPECS, "test")
        directory = await registry.directory(SPECS)
        watching = troubles.Watching(settings, registry, lambda: directory, clock)
        assert (await _device_certificates(settings, clock)).well
        await give(registry, "a1", "d1", 3.0)
        await give(registry, "b1", "air-1", 5.0, "field")
        with caplog.at_level(logging.WARNING):
            await watching.look()
            await watching.look()
            first = [(record.levelname, record.getMessage()) for record in caplog.records]
            assert first == [("WARNING", "certificates of devices run out within 14 days: d1, air-1")]
            found = await _device_certificates(settings, clock)
            assert not found.well
            assert "0 have run out, 2 do within 14 days; first d1 (fire): 3.0 days left" in found.said
            caplog.clear()
            clock.advance(4.0 * DAY_MS / 1000.0)
            await watching.look()
            second = [(record.levelname, record.getMessage()) for record in caplog.records]
            assert second == [("CRITICAL", "certificates of devices have run out: d1")], "a fire device cannot connect"
        assert watching.state()["device_certificates"]["expired_fire"] == 1
        assert (watching.count("expired", "fire"), watching.count("ending", "telemetry")) == (1, 1)
        await give(registry, "a2", "d1", 90.0)
        await watching.look()
        assert watching.state()["device_certificates"]["first"] == ["air-1 (field) in 1.0 days"]
