"""Passwords of vendors' devices in a real registry: given, rotated, taken away; never beside a certificate."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from iotcore.app import common
from iotcore.clock import ManualClock
from iotcore.errors import ConfigError, Refused, StartError
from iotcore.provision import vendor_access
from iotcore.provision.acl import BrokerName
from iotcore.registry import vendors
from iotcore.registry.records import Certificate
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import Broker, Brokers, Settings
from tests.support.shipped import SPECS
from tests.unit.test_docs import DOCS, blocks

BY = "test"
CLOCK = ManualClock()


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with await open_registry(f"sqlite://{tmp_path / 'registry.db'}", CLOCK) as opened:
        devices = [
            {"id": "air-7", "title": "Balcony", "model": "airgradient-one", "connection": "84fce612f5b8"},
            {"id": "z2m", "title": "Zigbee", "model": "zigbee2mqtt-bridge", "connection": "zigbee2mqtt"},
            {"id": "air-8", "title": "Old", "model": "airgradient-one"},
        ]
        await opened.import_city({"devices": devices}, SPECS, BY)
        yield opened


def certificate(cn: str) -> Certificate:
    return Certificate("17", cn, "field", int(CLOCK.wall_ms()) + 86_400_000, "ab" * 32)


async def state(registry: Registry, device: str) -> str:
    return (await registry.directory(SPECS)).devices[device].state


async def test_a_password_is_kept_as_a_hash_and_makes_a_device_provisioned(registry: Registry) -> None:
    before = await registry.last_change()
    await registry.keep_credential("air-7", vendor_access.hashed("secret"), BY)
    assert await state(registry, "air-7") == "provisioned"
    kept = (await registry.credentials())["air-7"]
    assert kept.startswith("$7$101$")
    assert "secret" not in kept
    assert {change.kind for change in await registry.changes_after(before)} == {"credential", "device"}
    assert "credential.create" in [entry.deed.action for entry in await registry.audit_entries()]
    assert await registry.verify_audit() == []


async def test_a_new_one_takes_the_place_of_the_last_and_revoking_takes_it_away(registry: Registry) -> None:
    await registry.keep_credential("air-7", "$7$one", BY)
    await registry.keep_credential("air-7", "$7$two", BY)
    assert await registry.credentials() == {"air-7": "$7$two"}
    assert await registry.revoke_credential("air-7", BY)
    assert not await registry.revoke_credential("air-7", BY)
    assert await registry.credentials() == {}


async def test_a_device_has_a_password_or_a_certificate_never_both(registry: Registry) -> None:
    await registry.keep_credential("air-7", "$7$one", BY)
    await registry.record_certificate(certificate("air-7"), BY)
    assert await registry.credentials() == {}
    with pytest.raises(Refused, match="has_certificate"):
        await registry.keep_credential("air-7", "$7$two", BY)
    await registry.revoke_certificate("17", BY)
    await registry.keep_credential("air-7", "$7$two", BY)


async def test_who_is_unknown_suspended_or_retired_gets_none(registry: Registry) -> None:
    with pytest.raises(Refused, match="unknown_device"):
        await registry.keep_credential("nobody", "$7$one", BY)
    await registry.keep_credential("air-8", "$7$one", BY)
    await registry.activate("air-8", BY)
    await registry.set_state("air-8", "suspended", BY)
    with pytest.raises(Refused, match="not_enrollable"):
        await registry.keep_credential("air-8", "$7$two", BY)
    access = vendor_access.made(await registry.directory(SPECS), await registry.credentials(), BrokerName.FIELD)
    assert (access.says, access.hashes) == ({}, {})
    assert "airgradient/readings/+" in access.heard  # what it might still say is to be refused and shown


async def test_a_user_says_what_its_own_devices_say_on_the_broker_of_their_domain(registry: Registry) -> None:
    (_, document) = [block for words, block in blocks(DOCS / "vendor-mqtt.md", "json") if words == "city"]
    await registry.import_city(json.loads(document), SPECS, BY)
    for device in ("air-7", "z2m"):
        await registry.keep_credential(device, f"$7${device}", BY)
    directory, credentials = await registry.directory(SPECS), await registry.credentials()
    fire = vendor_access.made(directory, credentials, BrokerName.FIRE)
    field = vendor_access.made(directory, credentials, BrokerName.FIELD)
    assert fire.says == {"z2m": ("zigbee2mqtt/Bếp",)}
    assert field.says == {"air-7": ("airgradient/readings/84fce612f5b8",), "z2m": ("zigbee2mqtt/bridge/state",)}
    assert fire.heard == vendors.filters(directory, ("fire",)) == ("zigbee2mqtt/+",)


@pytest.mark.parametrize(
    ("device", "problem"),
    [
        ({"model": "airgradient-one", "connection": "a/b"}, "one level"),
        ({"model": "airgradient-one", "connection": "#"}, "one level"),
        ({"model": "airgradient-one", "connection": "a\tb"}, "visible characters"),
        ({"model": "airgradient-one", "connection": "a\nuser svc.fire.1.in"}, "visible characters"),
        ({"model": "airgradient-one", "connection": "x" * 101}, "visible characters"),
        ({"model": "iotcore-mqtt-signal", "connection": "x"}, "only a Modbus unit"),
    ],
)
async def test_a_vendor_s_name_that_no_topic_or_acl_can_hold_is_refused(
    registry: Registry, device: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        await registry.import_city({"devices": [{"id": "odd", "title": "Odd", **device}]}, SPECS, BY)


def test_the_embedded_broker_has_no_such_listener_and_says_so_before_anything_starts(tmp_path: Path) -> None:
    asked = Brokers(field=Broker(port=8884, run="amqtt", password_port=8886))
    with pytest.raises(StartError, match=r"brokers\.field\.password_port"):
        common.check(Settings(data=str(tmp_path), brokers=asked))
