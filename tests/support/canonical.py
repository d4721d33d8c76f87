"""Messages of a few registered devices, decoded as the lanes do it."""

from __future__ import annotations

import json
from typing import Any

from drivers.mqtt import canonical
from iotcore.reading import Reading, Value
from iotcore.registry.directory import Binding, Directory
from iotcore.wire.arrival import Arrival, Decoded, Refusal
from tests.support.shipped import SPECS

NOW_MS = 1_795_312_800_500.0  # 2026-11-22T02:00:00.5Z
DAY_MS = 86_400_000
SMOKE = SPECS["iotcore-smoke-heat"]
DIRECTORY = Directory(
    devices={
        "sd-1": Binding("sd-1", "Smoke 1", SMOKE, "fire", "sd-1", "active"),
        "sd-2": Binding("sd-2", "Smoke 2", SMOKE, "fire", "gw-1", "provisioned"),
        "sd-3": Binding("sd-3", "Smoke 3", SMOKE, "fire", "sd-3", "suspended"),
        "sc-1": Binding("sc-1", "Signals 1", SPECS["iotcore-mqtt-signal"], "traffic", "sc-1", "active"),
        "gw-1": Binding("gw-1", "Gateway", SPECS["iotcore-modbus-gateway"], "gateway", "gw-1", "active"),
    }
)
TOPIC = "iot/v1/fire/sd-1/up/reading/sd-1"


def message(**changes: Any) -> dict[str, Any]:
    return {
        "v": 1,
        "boot": "9f3c12ab",
        "seq": 7,
        "ts": int(NOW_MS) - 200,
        "values": {"smoke": 0.5, "temperature": 24.1},
    } | changes


def arrive(payload: Any, topic: str = TOPIC, *, retained: bool = False, received_ms: float = NOW_MS) -> Decoded:
    content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return canonical.decode(Arrival(topic, content, retained, received_ms), DIRECTORY, NOW_MS)


def reading(payload: Any, topic: str = TOPIC, **how: Any) -> Reading:
    decoded = arrive(payload, topic, **how)
    assert decoded.refusals == ()
    assert len(decoded.readings) == 1
    return decoded.readings[0]


def refusal(payload: Any, topic: str = TOPIC) -> Refusal:
    decoded = arrive(payload, topic)
    assert decoded.readings == ()
    assert decoded.presence is None
    assert len(decoded.refusals) == 1
    return decoded.refusals[0]


def by_point(found: Reading) -> dict[str, Value]:
    return {value.point: value for value in found.values}
