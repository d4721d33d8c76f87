"""Vendors' MQTT devices made from their specs, on a real Mosquitto: plain, and over mutual TLS with a certificate got by CSR."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiomqtt
import pytest

from iotcore.clock import SystemClock
from iotcore.errors import Refused
from iotcore.provision.ca import Anchor
from iotcore.provision.services import ensure_service
from iotcore.reading import Quality, Scalar
from iotcore.specs import load, payload
from iotcore.specs.model import DeviceSpec
from iotcore.wire.arrival import Endpoint
from simulators import mqtt_faults
from simulators.enrol import enrol
from simulators.vendor_device import VendorDevice
from tests.support.core_stand_in import until
from tests.support.enrolling import book, device, listening
from tests.support.mosquitto import Mosquitto, TlsFiles
from tests.support.pki import authority, trust_file
from tests.support.shipped import SPECS
from tests.support.spec_cases import of_model

STATION = b"""
model: acme-station
vendor: Acme
title: Acme air station
device_class: air_station
protocol: json
source: "Ours, for this test"
verified: "Nothing: it exists in this test only"
interval_s: 60
mqtt: {topic: "acme/{device}/measures"}
points:
  pm25: {unit: "ug/m3", range: [0, 1000], json: {path: "sensors[name=pm25].value", number_in_text: true}}
  door: {kind: bool, json: {path: door}}
"""
BEACON = b"""
model: acme-beacon
vendor: Acme
title: Acme smoke beacon
device_class: fire_detector
protocol: bytes
source: "Ours, for this test"
verified: "Nothing: it exists in this test only"
interval_s: 3600
mqtt: {topic: "net/{device}/up", encoding: base64, path: data, length: 4, checksum: sum_zero}
points:
  alarm: {kind: bool, true_when: ["1"], bytes: {offset: 0, type: uint8}}
  temperature: {unit: "C", scale: 0.1, range: [-40, 85], bytes: {offset: 1, type: int16}}
"""
SHIPPED = [spec for spec in SPECS.values() if spec.protocol in {"json", "bytes"}]
OURS = [load.parse(STATION, "acme-station.yaml"), load.parse(BEACON, "acme-beacon.yaml")]
SAID: dict[str, dict[str, Scalar | None]] = {
    "acme-station": {"pm25": 17.5, "door": True},
    "acme-beacon": {"alarm": True, "temperature": 21.5},
}


@asynccontextmanager
async def heard(broker: Endpoint, topic_filter: str) -> AsyncIterator[list[tuple[str, bytes]]]:
    """What is published there, by a client that shares nothing with the devices."""
    found: list[tuple[str, bytes]] = []

    async def listen(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            found.append((str(message.topic), message.payload))

    async with aiomqtt.Client(broker.host, broker.port) as client:
        await client.subscribe(topic_filter)
        listening = asyncio.create_task(listen(client))
        try:
            yield found
        finally:
            listening.cancel()
            await asyncio.wait([listening])


def published(spec: DeviceSpec) -> dict[str, Scalar | None]:
    """What the most telling published payload among a model's cases says."""
    told: dict[str, Scalar | None] = {}
    for case in of_model(spec.model):
        content = case["payload"].encode() if "payload" in case else bytes.fromhex(case["hex"])
        with contextlib.suppress(Refused):
            good = {v.point: v.value for v in payload.decode(spec, content).values if v.quality is Quality.GOOD}
            told = max(told, good, key=len)
    assert told, f"no case of {spec.model} tells anything"
    return told


@pytest.mark.parametrize("spec", [*OURS, *SHIPPED], ids=lambda spec: spec.model)
async def test_a_vendor_s_device_says_its_own_payload_on_its_own_topic(spec: DeviceSpec, tmp_path: Path) -> None:
    assert spec.mqtt is not None
    said = SAID.get(spec.model) or published(spec)
    with Mosquitto(tmp_path) as broker:
        plain = broker.endpoint()
        async with heard(plain, "#") as messages, VendorDevice("dev-1", spec, plain, name="hall") as device:
            await until(lambda: device.connected, "connected")
            await device.report(said)
            await until(lambda: messages, "heard")
    ((topic, content),) = messages
    assert topic == (spec.mqtt.topic.replace("{device}", "hall") or "v1/devices/me/telemetry")
    decoded = {value.point: value for value in payload.decode(spec, content).values}
    assert {point: decoded[point].value for point in said} == pytest.approx(said)
    assert {value.quality.value for value in decoded.values() if value.point in said} == {"good"}


async def test_it_gets_a_certificate_by_csr_and_meets_a_broker_that_asks_for_one(tmp_path: Path) -> None:
    ours = authority(tmp_path)
    trust = trust_file(ours, tmp_path)
    async with book(tmp_path, [device("dev-1")], SystemClock()) as kept, listening(kept, ours, tmp_path, SystemClock()) as est:
        await kept.give("one-time", "dev-1")
        identity = await enrol(f"https://127.0.0.1:{est.port}", "one-time", "dev-1", trust, tmp_path / "device")
    anchors = tmp_path / "field.pem"
    anchors.write_bytes(ours.trust_pem(Anchor.FIELD))
    certificate, key = ensure_service(ours, tmp_path / "certs", "svc.broker.1.field", ("localhost",), SystemClock())
    tls = TlsFiles(anchors, certificate, key)
    second = Mosquitto(tmp_path / "plain")
    with second as bridged, Mosquitto(tmp_path, tls=tls, extra=bridge(bridged.port)) as broker:
        endpoint = identity.endpoint("localhost", broker.port)
        async with heard(bridged.endpoint(), "#") as messages, VendorDevice("dev-1", OURS[0], endpoint, qos=1) as station:
            await until(lambda: station.connected, "connected")
            await station.report(SAID["acme-station"])
            await until(lambda: messages, "heard behind the bridge")
        stranger = replace(endpoint, cert_file=certificate, key_file=key)
        async with VendorDevice("dev-1", OURS[0], stranger) as refused:
            await until(lambda: "ALERT" in refused.last_error, f"refused, and says {refused.last_error}")
    assert messages[0][0] == "acme/dev-1/measures"


async def test_its_faults_are_those_of_its_link_and_of_what_it_says(tmp_path: Path) -> None:
    spec = OURS[0]
    with Mosquitto(tmp_path) as broker:
        plain = broker.endpoint()
        async with heard(plain, "#") as messages, VendorDevice("dev-1", spec, plain, qos=1) as device:
            await until(lambda: device.connected, "connected")
            twice = mqtt_faults.Duplicate(copies=2)
            device.begin(twice)
            await device.report({"pm25": 1.0})
            await until(lambda: len(messages) == 2, "twice")
            device.end(twice)
            reorder = mqtt_faults.Reorder(window=2)
            device.begin(reorder)
            await device.report({"pm25": 2.0})
            await device.report({"pm25": 3.0})
            await until(lambda: len(messages) == 4, "newest first")
            device.end(reorder)
            stuck = mqtt_faults.Stuck()
            device.begin(stuck)
            await device.report({"pm25": 9.0})
            await until(lambda: len(messages) == 5, "stuck")
            device.end(stuck)
            device.begin(mqtt_faults.Oversized(70_000))
            await until(lambda: len(messages) == 6, "oversized")
            cut = mqtt_faults.Disconnect()
            device.begin(cut)
            await until(lambda: not device.connected, "cut")
            await device.report({"pm25": 10.0})
            assert device.counters.dropped == 1
            device.end(cut)
            await until(lambda: device.connected, "back")
            await device.report({"pm25": 11.0})
            await until(lambda: len(messages) == 7, "goes on")
    assert [payload.decode(spec, content).values[0].value for _, content in messages] == [1, 1, 3, 2, 3, 3, 11]
    assert len(messages[5][1]) == 70_000


def bridge(port: int) -> str:
    """Everything goes on to a plain broker too, so that a listener needs no certificate."""
    return f"connection onwards\naddress 127.0.0.1:{port}\ntopic # out 1\nbridge_protocol_version mqttv311\n"
