"""A group of the registry, followed into the fire lane: a device that joins it is judged by the group's rule."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from drivers.mqtt.canonical import decode
from iotcore.alarms import rules
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.app import fire_rules
from iotcore.clock import ManualClock
from iotcore.journal.journal import Journal
from iotcore.process.follow import Follower
from iotcore.registry import groups
from iotcore.registry.groups import GroupStore
from iotcore.registry.store import open_registry
from iotcore.settings import Settings
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival
from tests.support.covered import CITY
from tests.support.listed import ListBroker
from tests.support.shipped import SPECS

SENSITIVE = {"kind": "threshold", "point": "smoke", "unit": "dB/m", "above": 0.05}
RULE = {"id": "archive", "hazard": "smoke", "severity": "alarm", "source": "this test", "group": "archives", "when": SENSITIVE}


async def _quiet(_: str) -> None:
    """Nobody is told of a device's first reading."""


async def test_a_device_that_joins_a_group_by_a_label_is_judged_by_the_groups_rule(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    found = rules.check({"profile": "immediate", "rules": [RULE]}, "rules.yaml")
    async with await open_registry(f"sqlite://{tmp_path}/registry.db", clock) as registry:
        await registry.import_city(CITY, SPECS, "tester")
        await registry.set_state("s1", "provisioned", "tester")
        follower = Follower(registry, SPECS)
        await follower.refresh()
        grouped = await fire_rules.grouped(Settings(data=str(tmp_path)), registry, lambda: follower.directory, clock)
        fire_rules.warn_of_unknown(found, follower.directory, grouped)
        assert "there is no group 'archives'" in caplog.text

        store = GroupStore(registry.database)
        query = {"title": "Archives", "query": {"kind": "label", "name": "room", "is": ["archive"]}}
        await store.save("archives", groups.check("archives", query, follower.directory, SPECS), "lan")
        await grouped.refresh()
        caplog.clear()
        fire_rules.warn_of_unknown(found, follower.directory, grouped)
        assert caplog.text == ""

        journal = Journal(tmp_path / "journal.db", clock, ["arc"])
        lane = FireLane(
            broker=ListBroker(),
            decode=decode,
            directory=lambda: follower.directory,
            engine=Engine(found, grouped.members.of),
            journal=journal,
            clock=clock,
            opened=lambda _: None,
            first_seen=_quiet,
        )

        async def incidents_after(seq: int) -> int:
            clock.advance(2.0)
            body: dict[str, Any] = {"v": 1, "boot": "b1", "seq": seq, "ts": int(clock.wall_ms()), "values": {"smoke": 0.1}}
            topic = topics.up("fire", "s1", "reading", "s1")
            await lane.turn([Arrival(topic, json.dumps(body).encode(), retained=False, received_ms=clock.wall_ms())])
            return len(journal.connection.execute("SELECT id FROM incident").fetchall())

        assert await incidents_after(1) == 0

        moved = copy.deepcopy(CITY)
        next(one for one in moved["devices"] if one["id"] == "s1")["labels"] = {"room": "archive"}
        await registry.import_city(moved, SPECS, "tester")
        await follower.refresh()
        await grouped.refresh()
        assert await incidents_after(2) == 1
        journal.close()
