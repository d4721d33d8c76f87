"""Areas, contacts and what a device's place is made of, on SQLite and PostgreSQL."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from iotcore.clock import ManualClock
from iotcore.errors import ConfigError
from iotcore.process.follow import Follower
from iotcore.registry.directory import Directory
from iotcore.registry.landmarks import near
from iotcore.registry.places import Places
from iotcore.registry.records import Imported
from iotcore.registry.store import open_registry
from tests.support.shipped import SPECS

PLACES: dict[str, Any] = {
    "areas": [
        {"id": "phuong-1", "kind": "ward", "name": "Phường 1", "parent": "tp-1"},
        {"id": "tp-1", "kind": "city", "name": "Thành phố", "parent": "tinh-1"},
        {"id": "tinh-1", "kind": "province", "name": "Tỉnh"},
    ],
    "premises": [
        {
            "id": "truong-1",
            "name": "Trường",
            "address": "1 Lê Lợi",
            "latitude": 19.8,
            "longitude": 105.7,
            "account": "1001",
            "key_site": True,
            "area": "phuong-1",
            "risk_class": "high",
            "hydrants": "Trụ 12, trước cổng; mùa khô áp lực thấp",
        }
    ],
    "contacts": [
        {"id": "truong-1-bv", "premises": "truong-1", "name": "Bảo vệ", "phone": "+84 237 385 2222", "key_holder": True}
    ],
    "zones": [{"id": "truong-1-z1", "premises": "truong-1", "number": 1, "floor": "1", "name": "Hành lang"}],
    "devices": [
        {
            "id": "sd-1",
            "title": "Khói 1",
            "model": "iotcore-smoke-heat",
            "premises": "truong-1",
            "zone": "truong-1-z1",
            "serial": "SN-0001",
            "location": "Trần, trên cửa phòng 101",
            "latitude": 19.80001,
            "longitude": 105.70001,
            "labels": {"line": "2", "room": "101"},
        }
    ],
}


async def test_places_are_stored_once_and_only_what_differs_changes(registry_url: str) -> None:
    async with await open_registry(registry_url, ManualClock()) as registry:
        assert await registry.import_city(PLACES, SPECS, "tester") == Imported(7, 0, 0)
        assert await registry.import_city(PLACES, SPECS, "tester") == Imported(0, 0, 7)
        other = copy.deepcopy(PLACES)
        other["devices"][0]["labels"]["room"] = "102"
        other["areas"][0]["name"] = "Phường Một"
        assert await registry.import_city(other, SPECS, "tester") == Imported(0, 2, 5)
        last = (await registry.audit_entries())[-1]
        assert (last.deed.action, last.deed.detail) == ("device.change", '{"labels":"{\\"line\\":\\"2\\",\\"room\\":\\"102\\"}"}')


async def test_what_is_wrong_with_a_place_is_said_all_at_once(registry_url: str) -> None:
    wrong = copy.deepcopy(PLACES)
    wrong["areas"][0]["parent"] = "phuong-1"
    wrong["areas"][1]["parent"] = "nowhere"
    wrong["premises"][0]["area"] = "phuong-9"
    wrong["contacts"][0]["premises"] = "truong-9"
    del wrong["devices"][0]["longitude"]
    wrong["devices"].append({**wrong["devices"][0], "id": "sd-2", "latitude": None})
    async with await open_registry(registry_url, ManualClock()) as registry:
        with pytest.raises(ConfigError) as refused:
            await registry.import_city(wrong, SPECS, "tester")
        assert [problem.path for problem in refused.value.problems] == [
            "areas[0].parent",
            "areas[1].parent",
            "premises[0].area",
            "contacts[0].premises",
            "devices[0].serial",
            "devices[0].longitude",
            "devices[1].serial",
        ]
        assert await registry.audit_entries() == []


async def test_a_serial_belongs_to_one_device_of_a_model(registry_url: str) -> None:
    async with await open_registry(registry_url, ManualClock()) as registry:
        await registry.import_city(PLACES, SPECS, "tester")
        twin = {"devices": [{**PLACES["devices"][0], "id": "sd-2"}]}
        with pytest.raises(ConfigError, match="'sd-2' has the same serial as 'sd-1'"):
            await registry.import_city(twin, SPECS, "tester")
        await registry.import_city({"devices": [{**twin["devices"][0], "model": "iotcore-call-point"}]}, SPECS, "tester")


AROUND: dict[str, Any] = {
    "premises": [
        *PLACES["premises"],
        {"id": "kho-1", "name": "Kho", "address": "2 Lê Lợi", "latitude": 19.805, "longitude": 105.7, "account": "1002"},
    ],
    "contacts": [
        {"id": "a-1", "premises": "truong-1", "name": "Hiệu trưởng"},
        *PLACES["contacts"],
    ],
    "devices": [
        {"id": "sig-1", "title": "Ngã tư", "model": "iotcore-mqtt-signal", "latitude": 19.801, "longitude": 105.7},
        {"id": "sig-2", "title": "Cổng kho", "model": "iotcore-mqtt-signal", "premises": "kho-1"},
        {"id": "air-1", "title": "Trạm", "model": "airgradient-one", "premises": "kho-1"},
        {"id": "sig-3", "title": "Không ai biết ở đâu", "model": "iotcore-mqtt-signal"},
    ],
}


async def test_the_lanes_know_whom_a_crew_calls_and_what_stands_around_and_follow_each_change(registry_url: str) -> None:
    async with await open_registry(registry_url, ManualClock()) as registry:
        places = Places(registry.database)
        follower = Follower(registry, SPECS)
        await registry.import_city(PLACES | {"contacts": []}, SPECS, "tester")
        await follower.refresh()
        await registry.import_city(AROUND, SPECS, "tester")
        await follower.refresh()
        here = follower.directory
        assert here == await registry.directory(SPECS)
        assert [one.id for one in here.contacts["truong-1"]] == ["truong-1-bv", "a-1"]  # who has the keys comes first
        assert (here.premises["truong-1"].risk_class, here.devices["sd-1"].location) == ("high", "Trần, trên cửa phòng 101")
        assert around(here) == [("sig-1", 111), ("sig-2", 556)]
        await places.remove("contact", "a-1", "tester")
        await places.change("premises", "kho-1", {"latitude": 19.809}, specs=SPECS, by="tester")
        await follower.refresh()
        assert [one.id for one in follower.directory.contacts["truong-1"]] == ["truong-1-bv"]
        assert around(follower.directory) == [("sig-1", 111)]  # that of the building has moved with it, out of sight
        await places.remove("contact", "truong-1-bv", "tester")
        await places.retire("sig-1", "gãy cột", SPECS, "tester")
        await follower.refresh()
        assert follower.directory == await registry.directory(SPECS)
        assert (follower.directory.contacts, around(follower.directory)) == ({}, [])


def around(directory: Directory) -> list[tuple[str, int]]:
    found = near(directory.landmarks, 19.8, 105.7, "traffic_signal", within_m=900.0, most=5)
    return [(one.landmark.device, round(one.metres)) for one in found]
