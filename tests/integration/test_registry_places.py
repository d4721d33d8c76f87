"""Areas, contacts and what a device's place is made of, on SQLite and PostgreSQL."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from iotcore.clock import ManualClock
from iotcore.errors import ConfigError
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
