"""Traps of Mosquitto that are known, each with the real one: what it does, and that our configuration does not fall in.

docs/access.md has the table of traps and their tests; others are in test_broker_acl, test_revocation and test_broker_alarms.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from iotcore.errors import EnrolmentError
from iotcore.provision import policy
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import AUTOSAVE_S, BrokerHome, write_home
from iotcore.provision.broker_process import BrokerProcess
from iotcore.provision.ca import Anchor
from iotcore.provision.mosquitto import form_here
from tests.support.brokers import Site, accepted, site
from tests.support.pki import authority
from tests.support.ports import free_port
from tests.support.requests import key_pem, p256, request

FIRE, FIELD = BrokerName.FIRE, BrokerName.FIELD
LANE = "svc.fire.1.in"
UP = "iot/v1/fire/{0}/up/reading/{0}"


@pytest.fixture
async def city(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, "mosquitto", [FIRE]) as running:
        yield running


def signed_as_it_is(city: Site, name: str, until: dt.datetime | None = None) -> ssl.SSLContext:
    """A certificate of the fire anchor with any name, that our authority would never issue."""
    issuer, key, now = city.authority.issuers(Anchor.FIRE).signs.issuer, p256(), dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    end = until or now + dt.timedelta(days=1)
    builder = x509.CertificateBuilder(
        issuer.certificate.subject, subject, key.public_key(), x509.random_serial_number(), end - dt.timedelta(days=2), end
    ).add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    folder = city.folder / "strange" / str(len(list((city.folder).glob("strange/*"))))
    folder.mkdir(parents=True)
    (folder / "d.pem").write_bytes(builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (folder / "d.key").write_bytes(key_pem(key))
    return city.tls(folder / "d.pem", folder / "d.key")


async def test_a_name_with_a_slash_reaches_another_s_topics_so_no_certificate_has_one(city: Site) -> None:
    """Mosquitto puts `%u` into a pattern as it is: with this name, `iot/v1/+/%u/up/#` begins with another's own topic."""
    name = "victim/up/reading/victim"
    forged = f"iot/v1/fire/{name}/up/x"
    async with city.client(FIRE, city.service(LANE)) as lane:
        await lane.listen("iot/v1/fire/+/up/#")
        async with city.client(FIRE, signed_as_it_is(city, name)) as thief:
            await thief.say(forged)
            if not form_here().modern:  # the acl plugin of 2.1 lets nobody with such a name say anything
                assert await lane.until(bool) == [forged], "it is heard as a word of the victim's"
            await asyncio.sleep(0.3)
            heard = len(lane.topics)
        async with city.client(FIRE, signed_as_it_is(city, "+")) as thief:
            await thief.say(UP.format("victim"))
            await asyncio.sleep(0.3)
            assert len(lane.topics) == heard, "against wildcards in a name Mosquitto guards itself"
    for refused in (name, "x/victim", "+", "#", "x/+", "$SYS"):
        with pytest.raises(EnrolmentError):
            policy.check(request(refused), refused)


async def test_a_subscription_is_granted_and_nothing_is_delivered(city: Site) -> None:
    """With an acl, SUBACK says "granted" for anything: whoever tests isolation by SUBACK has tested nothing."""
    async with (
        city.client(FIRE, city.device("thief")) as thief,
        city.client(FIRE, city.device("victim")) as victim,
        city.client(FIRE, city.service(LANE)) as lane,
    ):
        await lane.listen("iot/v1/fire/+/up/#")
        for wanted in ("#", UP.format("victim"), "iot/v1/+/victim/down/#"):
            (code,) = await thief.mqtt.subscribe(wanted, qos=1)
            assert code == 1 or getattr(code, "value", None) == 1, f"{wanted}: it says that it is granted at QoS 1"
        await victim.say(UP.format("victim"))
        await lane.until(bool)
        await asyncio.sleep(0.3)
        assert thief.topics == []


@pytest.mark.parametrize("shared", ["$share/g/#", "$share/g/iot/v1/fire/+/up/#", f"$share/{LANE}/iot/v1/fire/+/up/#"])
async def test_a_shared_subscription_takes_nothing_of_others(city: Site, shared: str) -> None:
    """It would even take messages away from whoever shares: of ten, the lane must have all ten."""
    async with (
        city.client(FIRE, city.device("thief")) as thief,
        city.client(FIRE, city.device("victim")) as victim,
        city.client(FIRE, city.service(LANE)) as lane,
    ):
        await lane.listen("iot/v1/fire/+/up/#")
        await thief.listen(shared)
        await victim.say(*[UP.format("victim")] * 10)
        await lane.until(lambda topics: len(topics) == 10)
        await asyncio.sleep(0.3)
        assert thief.topics == []


async def test_the_broker_s_own_figures_are_for_the_doctor_alone(city: Site) -> None:
    """`$SYS/#` names how many are there and what they send; it is written anew every second here."""
    async with city.client(FIRE, city.device("thief")) as thief, city.client(FIRE, city.service(LANE)) as lane:
        for client in (thief, lane):
            await client.listen("$SYS/#", "$SYS/broker/clients/connected", "$CONTROL/#")
        await asyncio.sleep(2.0 * AUTOSAVE_S[FIRE] + 0.2)
        assert thief.topics == []
        assert lane.topics == []
    async with city.client(FIRE, city.service("svc.doctor.1.fire")) as doctor:
        await doctor.listen("$SYS/#")
        assert await doctor.until(bool) == ["$SYS/broker/version"]


async def test_a_device_cannot_say_commands_to_the_broker(city: Site) -> None:
    """The plugin that ends sessions hears `$CONTROL/dynamic-security/v1` from its own listener's user alone."""
    order = b'{"commands":[{"command":"disableClient","username":"victim"},{"command":"createClient","username":"x"}]}'
    async with city.client(FIRE, city.device("thief")) as thief, city.client(FIRE, city.device("victim")) as victim:
        await thief.listen("$CONTROL/dynamic-security/v1/response")
        await thief.say("$CONTROL/dynamic-security/v1", payload=order)
        await asyncio.sleep(0.5)
        assert thief.topics == []
        assert victim.mqtt._client.is_connected()
        await victim.say(UP.format("victim"))


async def test_a_message_that_nobody_hears_is_answered_with_0x10(city: Site) -> None:
    """MQTT 5 alone says so; who counts it as accepted has lost it."""
    codes: list[int] = []
    async with city.client(FIRE, city.device("d-1")) as device:
        paho: Any = device.mqtt._client
        before = paho.on_publish

        def note(client: Any, userdata: Any, mid: int, code: Any, properties: Any) -> None:
            codes.append(code.value)
            before(client, userdata, mid, code, properties)

        paho.on_publish = note
        await device.say(UP.format("d-1"))
        async with city.client(FIRE, city.service(LANE)) as lane:
            await lane.listen("iot/v1/fire/+/up/#")
            await device.say(UP.format("d-1"))
    assert codes == [0x10, 0]


async def test_a_puback_is_no_promise_of_a_disk(tmp_path: Path) -> None:
    """What was acknowledged since the last save is gone after a kill -9: hence the receipt, and the device's own copy."""
    ours, home = authority(tmp_path), BrokerHome(FIELD, tmp_path / "broker", free_port())
    write_home(ours, home)
    with BrokerProcess(home) as broker:  # the field broker saves every 10 s
        city = Site(tmp_path, "mosquitto", ours, {FIELD: home}, {FIELD: broker})
        lane = city.service("svc.telemetry.1.field")
        async with city.client(FIELD, lane, clean_session=False) as client:
            await client.listen("iot/v1/+/+/up/#")
        broker.stop()  # it saves: the session is kept whatever follows
        broker.start()
        async with city.client(FIELD, city.device("a-1", Anchor.FIELD)) as device:
            for _ in range(100):
                await device.mqtt.publish("iot/v1/air/a-1/up/reading/a-1", b"{}", qos=1, timeout=5.0)
        broker.kill()
        broker.start()
        async with city.client(FIELD, lane, clean_session=False) as client:
            await asyncio.sleep(1.0)
            assert len(client.topics) < 100, "all of them were acknowledged"


async def test_an_expired_certificate_is_refused_in_the_handshake(city: Site) -> None:
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    assert await accepted(city, FIRE, signed_as_it_is(city, "d-1"))
    assert not await accepted(city, FIRE, signed_as_it_is(city, "d-1", yesterday))


async def test_a_connection_that_is_only_opened_does_not_keep_others_out(city: Site) -> None:
    """A stranger may open connections and say nothing; a device gets in beside a hundred of them."""
    writers = []
    for _ in range(100):
        _, writer = await asyncio.open_connection("127.0.0.1", city.homes[FIRE].port)
        writers.append(writer)
    assert await accepted(city, FIRE, city.device("d-1"))
    for writer in writers:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_what_the_lane_may_not_hear_twice(city: Site) -> None:
    """A service's name is one connection: a second one with the same certificate ends the first, it does not share its queue."""
    tls = city.service(LANE)
    async with city.client(FIRE, tls) as first:
        await first.listen("iot/v1/fire/+/up/#")
        async with city.client(FIRE, tls) as second:
            async with asyncio.timeout(5.0):
                await asyncio.wait([first.mqtt._disconnected])
            await second.listen("iot/v1/fire/+/up/#")
            async with city.client(FIRE, city.device("d-1")) as device:
                await device.say(UP.format("d-1"))
            assert await second.until(bool) == [UP.format("d-1")]
    with contextlib.suppress(aiomqtt.MqttError):
        first.mqtt._disconnected.exception()
