"""A small city of made-up models, as large as a test wants it."""

from __future__ import annotations

from typing import Any

from iotcore.specs.model import DeviceClass, DeviceSpec, Point


def spec(model: str, device_class: DeviceClass, protocol: Any = "canonical") -> DeviceSpec:
    return DeviceSpec(model, "ours", model, device_class, protocol, "this test", "here", 10.0, {"smoke": Point()})


SPECS = {
    one.model: one
    for one in (
        spec("smoke-heat", "fire_detector"),
        spec("gateway", "gateway"),
        spec("air", "air_station", "modbus"),
        spec("signal", "traffic_signal"),
    )
}


def city(premises: int = 2, detectors: int = 4, air: int = 2) -> dict[str, Any]:
    places = range(1, premises + 1)
    return {
        "premises": [
            {
                "id": f"p{i}",
                "name": f"Trường {i}",
                "address": f"{i} Lê Lợi",
                "latitude": 19.8,
                "longitude": 105.77,
                "account": f"a{i:03}",
            }
            for i in places
        ],
        "zones": [{"id": f"p{i}-z1", "premises": f"p{i}", "number": 1, "floor": "2", "name": "Bếp"} for i in places],
        "devices": [
            *(
                {
                    "id": f"air-{i}",
                    "title": "Trạm",
                    "model": "air",
                    "parent": "gw-1",
                    "connection": f"tcp://10.0.0.{i}:502?device_id=1",
                }
                for i in range(1, air + 1)
            ),
            {"id": "gw-1", "title": "Cổng", "model": "gateway"},
            *(
                {
                    "id": f"d{i}",
                    "title": "Đầu báo",
                    "model": "smoke-heat",
                    "premises": (p := f"p{i % premises + 1}"),
                    "zone": f"{p}-z1",
                }
                for i in range(1, detectors + 1)
            ),
        ],
    }
