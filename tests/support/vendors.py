"""A directory of vendors' devices, and what arrives of them."""

from __future__ import annotations

import json
from typing import Any

from drivers.mqtt.decode import Decoder
from drivers.mqtt.vendor import Vendors
from iotcore.registry.directory import Binding, Directory
from iotcore.specs import load
from iotcore.specs.model import DeviceSpec
from iotcore.wire.arrival import Arrival, Decoded
from iotcore.wire.topics import DOMAIN_OF_CLASS
from tests.support.shipped import SPECS

NOW_MS = 1_795_312_800_500.0  # 2026-11-22T02:00:00.5Z
HEAD = (
    'vendor: Acme\ntitle: Acme\nprotocol: json\nsource: "Ours, for this test"\nverified: "Nothing: it exists in this test only"\n'
)
STATION = (
    HEAD
    + """model: acme-station
device_class: air_station
interval_s: 60
mqtt: {topic: "acme/{device}/measures", timestamp: at}
points:
  pm25: {unit: "ug/m3", range: [0, 1000], json: {path: "sensors[name=pm25].value", number_in_text: true}}
"""
)
WILD = (
    HEAD
    + 'model: acme-wild\ndevice_class: air_station\ninterval_s: 60\nmqtt: {topic: "app/+/{device}/up"}\n'
    + ("points:\n  co: {unit: ppm, range: [0, 100], json: {path: co}}\n")
)
CHILD = (
    HEAD
    + "model: acme-child\ndevice_class: air_station\ninterval_s: 60\nmqtt: {format: thingsboard}\n"
    + (
        "points:\n  temperature: {unit: C, range: [-40, 85], json: {path: temperature}}\n"
        "  humidity: {unit: '%', range: [0, 100], json: {path: humidity}}\n"
    )
)
SMOKE_CHILD = (
    HEAD
    + "model: acme-smoke\ndevice_class: fire_detector\ninterval_s: 60\nmqtt: {format: thingsboard}\n"
    + ("points:\n  alarm: {kind: bool, json: {path: smoke}}\n")
)


def spec(text: str) -> DeviceSpec:
    return load.parse(text.encode(), text.split("model: ")[1].split("\n", maxsplit=1)[0] + ".yaml")


ACME = {one.model: one for one in map(spec, (STATION, WILD, CHILD, SMOKE_CHILD))}


def binding(
    device: str, model: str, publisher: str = "", *, name: str = "", state: str = "active", premises: str = ""
) -> Binding:
    found = ACME.get(model) or SPECS[model]
    domain = DOMAIN_OF_CLASS[found.device_class]
    return Binding(device, device, found, domain, publisher or device, state, premises, connection=name)


def directory(*more: Binding) -> Directory:
    devices = (
        binding("st-1", "acme-station"),
        binding("st-2", "acme-station", name="Trạm 2"),
        binding("off-1", "acme-station", state="suspended"),
        binding("wild-1", "acme-wild"),
        binding("z2m", "zigbee2mqtt-bridge", name="zigbee2mqtt"),
        binding("smoke-1", "aqara-smoke-zigbee2mqtt", "z2m", name="Bếp"),
        binding("tb-1", "thingsboard-gateway"),
        binding("a", "acme-child", "tb-1", name="Device A"),
        binding("b", "acme-child", "tb-1", name="Device B"),
        *more,
    )
    return Directory({one.device: one for one in devices})


DIRECTORY = directory()


def arrival(topic: str, payload: Any, *, retained: bool = False) -> Arrival:
    content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Arrival(topic, content, retained, NOW_MS)


def decoder(*domains: str) -> Decoder:
    return Decoder(Vendors(domains, boot="@b1") if domains else Vendors(boot="@b1"))


def arrive(topic: str, payload: Any, *, of: Directory = DIRECTORY, retained: bool = False) -> Decoded:
    return decoder()(arrival(topic, payload, retained=retained), of, NOW_MS)
