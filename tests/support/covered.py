"""A city with areas, key sites and a few devices, for coverage and groups; and what a telemetry worker would write of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from iotcore.registry.commissioning import Commissioning, LastTest
from iotcore.registry.store import Registry
from iotcore.telemetry.embedded import TelemetryFile


def _premises(name: str, title: str, area: str, account: str, *, key: bool = True) -> dict[str, Any]:
    place = {"address": f"{account} Lê Lợi", "latitude": 19.8, "longitude": 105.77, "account": account}
    return {"id": name, "name": title, **place, "key_site": key, "area": area}


CITY: dict[str, Any] = {
    "areas": [
        {"id": "th", "kind": "province", "name": "Thanh Hóa"},
        {"id": "tp", "kind": "city", "name": "Thành phố Thanh Hóa", "parent": "th"},
        {"id": "w1", "kind": "ward", "name": "Phường Hạc Thành", "parent": "tp"},
        {"id": "w2", "kind": "ward", "name": "Phường Hàm Rồng", "parent": "tp"},
        {"id": "w3", "kind": "ward", "name": "Phường Đông Tiến", "parent": "tp"},
    ],
    "premises": [
        _premises("school", "Trường Tiểu học Lê Lợi", "w1", "1001"),
        _premises("market", "Chợ Vườn Hoa", "w2", "1002"),
        _premises("hospital", "Bệnh viện Đa khoa tỉnh", "w2", "1003"),
        _premises("depot", "=Kho xăng", "", "1004"),
        _premises("home", "Nhà dân", "w1", "1005", key=False),
    ],
    "devices": [
        {"id": "gw", "title": "Cổng", "model": "iotcore-modbus-gateway"},
        {"id": "s1", "title": "Khói 1", "model": "iotcore-smoke-heat", "premises": "school", "labels": {"line": "2"}},
        {"id": "c1", "title": "Nút 1", "model": "iotcore-call-point", "premises": "school"},
        {"id": "s2", "title": "Khói 2", "model": "iotcore-smoke-heat", "premises": "market"},
        {"id": "s3", "title": "Khói 3", "model": "iotcore-smoke-heat", "premises": "market"},
    ],
}


async def activate(registry: Registry, *devices: str) -> None:
    """As if they had enrolled and spoken."""
    for device in devices:
        await registry.set_state(device, "provisioned", "tester")
        await registry.set_state(device, "active", "tester")


async def pass_test(registry: Registry, device: str, at_ms: float) -> None:
    """As if a test alarm of it had come through."""
    await Commissioning(registry.database).record_test(LastTest(device, int(at_ms), 80.0, "tester"), {})


async def heard(telemetry: Path, seen_ms: Mapping[str, float], firmware: Mapping[str, str] | None = None) -> None:
    """telemetry.db with its own tables, and when devices were heard last."""
    async with TelemetryFile(telemetry):
        pass
    with closing(sqlite3.connect(telemetry)) as connection, connection:
        for device, at_ms in seen_ms.items():
            row = (device, at_ms, (firmware or {}).get(device, ""))
            connection.execute("INSERT OR REPLACE INTO presence VALUES (?, 'online', 0, ?, ?)", row)
