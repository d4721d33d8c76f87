"""Who may do what, tried out with certificates of our own authority on real brokers: Mosquitto, and the embedded one."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import aiomqtt
import pytest

from iotcore.clock import ManualClock
from iotcore.provision.acl import ROLES, Access, BrokerName, allowed
from iotcore.provision.broker import MAX_PACKET_BYTES, BrokerHome, write_home
from iotcore.provision.broker_process import BrokerProcess
from iotcore.provision.ca import Anchor
from iotcore.wire.topics import DOMAINS, DOWN_KINDS, UP_KINDS
from tests.support.brokers import Kind, Site, accepted, becomes, connect_with, site
from tests.support.pki import authority, device_files
from tests.support.ports import free_port

FIRE, FIELD = BrokerName.FIRE, BrokerName.FIELD
LANE = {FIRE: "svc.fire.2.in", FIELD: "svc.telemetry.2.field"}
VERSION = "$SYS/broker/version"
DOMAIN = {FIRE: "fire", FIELD: "air"}


@pytest.fixture(params=["mosquitto", "amqtt"])
async def city(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    kind: Kind = request.param
    async with site(tmp_path, kind) as running:
        yield running


async def test_a_certificate_of_the_other_anchor_cannot_even_connect(city: Site) -> None:
    assert not await accepted(city, FIRE, city.device("d-1", Anchor.FIELD))
    assert not await accepted(city, FIELD, city.device("d-1", Anchor.FIRE))
    assert await accepted(city, FIRE, city.device("d-1", Anchor.FIRE))
    assert await accepted(city, FIELD, city.device("d-1", Anchor.FIELD))


async def test_without_a_certificate_or_with_a_stranger_s_nobody_connects(city: Site, tmp_path: Path) -> None:
    assert not await accepted(city, FIRE, city.tls())
    stranger = authority(tmp_path / "stranger")
    assert not await accepted(city, FIRE, city.tls(*device_files(stranger, tmp_path / "stranger", Anchor.FIRE, "d-1")[:2]))


async def test_the_broker_s_own_certificate_is_no_way_in(city: Site) -> None:
    home = city.homes[FIRE]
    assert not await accepted(city, FIRE, city.tls(home.certificate, home.key))


async def test_what_is_published_in_another_s_name_is_not_delivered(city: Site) -> None:
    async with (
        city.client(FIRE, city.service("svc.fire.1.in")) as lane,
        city.client(FIRE, city.device("thief"), client_id="victim") as thief,
    ):
        await lane.listen("iot/v1/fire/+/up/#")
        await thief.say(
            "iot/v1/fire/victim/up/reading/victim",
            "iot/v1/fire/victim/down/receipt/victim",
            "iot/v1/fire/svc.fire.1.in/up/reading/victim",
            "iot/v1/fire/thief/down/receipt/thief",
            "iot/v1/fire/thief/up/reading/victim",  # as itself: for ingest to refuse, which knows whose child is whose
        )
        assert await lane.until(bool) == ["iot/v1/fire/thief/up/reading/victim"]


async def test_a_wildcard_subscription_gets_nothing_of_others_live_or_retained(city: Site) -> None:
    own = "iot/v1/fire/thief/down/receipt/thief"
    async with (
        city.client(FIRE, city.service("svc.fire.1.in")) as lane,
        city.client(FIRE, city.device("victim")) as victim,
    ):
        await lane.listen("iot/v1/fire/+/up/#")
        await victim.say("iot/v1/fire/victim/up/status/victim", retain=True)
        await lane.until(bool)
        async with city.client(FIRE, city.device("thief")) as thief:
            await thief.listen("#", "+/#", "iot/v1/#", "iot/v1/+/victim/down/#", "iot/v1/fire/+/up/#", "$SYS/#")
            await thief.listen("iot/v1/+/thief/down/#")
            await victim.say("iot/v1/fire/victim/up/reading/victim")
            await lane.until(lambda topics: len(topics) == 2)
            await lane.say("iot/v1/fire/victim/down/receipt/victim", own)
            await thief.until(lambda topics: own in topics)
            assert set(thief.topics) == {own}


async def test_a_client_id_of_another_takes_nothing_over(city: Site) -> None:
    mine = "iot/v1/fire/victim/down/receipt/victim"
    async with (
        city.client(FIRE, city.service("svc.fire.1.in")) as lane,
        city.client(FIRE, city.device("victim"), client_id="victim") as victim,
    ):
        await victim.listen("iot/v1/+/victim/down/#")
        for clean in (True, False):
            async with city.client(FIRE, city.device("thief"), client_id="victim", clean_session=clean) as thief:
                await thief.listen("iot/v1/+/thief/down/#")
                await lane.say(mine, "iot/v1/fire/thief/down/receipt/thief")
                assert await thief.until(bool) == ["iot/v1/fire/thief/down/receipt/thief"]
        assert await victim.until(lambda topics: len(topics) == 2) == [mine, mine]


async def test_a_will_is_published_in_one_s_own_name_and_never_in_another_s(city: Site) -> None:
    own = "iot/v1/fire/thief/up/status/thief"
    async with city.client(FIRE, city.service("svc.fire.1.in")) as lane:
        await lane.listen("iot/v1/fire/+/up/#")
        for topic in ("iot/v1/fire/victim/up/status/victim", own):
            will = aiomqtt.Will(topic, b'{"state":"offline"}', qos=1, retain=True)
            with contextlib.suppress(aiomqtt.MqttError):  # the embedded broker does not even let it connect
                async with city.client(FIRE, city.device("thief"), will=will) as thief:
                    await thief.pull_cable()
        assert await lane.until(bool) == [own]


async def test_a_service_reads_exactly_what_the_table_says(city: Site) -> None:
    up = [f"iot/v1/{domain}/d-1/up/{kind}/d-1" for domain in DOMAINS for kind in sorted(UP_KINDS)]
    for role in ROLES:
        name = role.names()[0]
        last = f"iot/v1/{DOMAIN[role.broker]}/{name}/down/receipt/last"  # every name may read its own `down`
        expected = {topic for topic in (*up, last, VERSION) if allowed(role.broker, name, Access.READ, topic)}
        async with (
            city.client(role.broker, city.service(LANE[role.broker])) as lane,
            city.client(role.broker, city.device("d-1", Anchor(role.broker.value))) as device,
            city.client(role.broker, city.service(name)) as service,
        ):
            await service.listen("#", last, *(grant.filter for grant in role.grants if grant.access.covers(Access.READ)))
            await device.say(*up)
            await lane.say(last)
            await service.until(partial(set(expected).issubset))
            assert {*service.topics} == expected, name


async def test_a_service_writes_exactly_what_the_table_says(city: Site) -> None:
    down = [f"iot/v1/{domain}/d-1/down/{kind}/d-1" for domain in DOMAINS for kind in sorted(DOWN_KINDS)]
    for role in ROLES:
        name = role.names()[0]
        last = f"iot/v1/{DOMAIN[role.broker]}/d-1/down/receipt/last"
        expected = {topic for topic in (*down, last) if allowed(role.broker, name, Access.WRITE, topic)} | {last}
        async with (
            city.client(role.broker, city.service(LANE[role.broker])) as lane,
            city.client(role.broker, city.device("d-1", Anchor(role.broker.value))) as device,
            city.client(role.broker, city.service(name)) as service,
        ):
            await device.listen("iot/v1/+/d-1/down/#")
            await service.say(*down)
            await lane.say(last)
            await device.until(partial(set(expected).issubset))
            assert {*device.topics} == expected, name


async def test_a_revoked_certificate_is_refused_once_the_broker_has_the_list_and_its_neighbour_is_not(city: Site) -> None:
    certificate, key, issued = device_files(city.authority, city.folder, Anchor.FIRE, "lost")
    lost, kept = city.tls(certificate, key), city.device("kept")
    assert await accepted(city, FIRE, lost)
    city.authority.revoke(Anchor.FIRE, issued.serial)
    city.republish(FIRE)
    assert await becomes(city, FIRE, lost, wanted=False)
    assert await accepted(city, FIRE, kept)
    assert await accepted(city, FIRE, city.service("svc.fire.1.in"))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name)
async def test_a_tls_session_from_before_its_revocation_is_no_way_in(city: Site, version: ssl.TLSVersion) -> None:
    certificate, key, issued = device_files(city.authority, city.folder, Anchor.FIRE, "lost")
    tls = city.tls(certificate, key)
    before, session = await asyncio.to_thread(connect_with, city.homes[FIRE].port, tls, version)
    assert before is (city.kind == "mosquitto" or version is ssl.TLSVersion.TLSv1_3)  # the embedded broker takes 1.3 only
    city.authority.revoke(Anchor.FIRE, issued.serial)
    city.republish(FIRE)
    assert await becomes(city, FIRE, tls, wanted=False)
    assert (await asyncio.to_thread(connect_with, city.homes[FIRE].port, tls, version, session))[0] is False


async def test_a_message_far_over_the_contract_arrives_to_be_counted_and_a_giant_cuts_its_sender(city: Site) -> None:
    async with city.client(FIRE, city.service("svc.fire.1.in")) as lane, city.client(FIRE, city.device("d-1")) as device:
        await lane.listen("iot/v1/fire/+/up/#")
        await device.say("iot/v1/fire/d-1/up/reading/d-1", payload=b" " * 1_000_000)
        await lane.until(bool)
        assert len(lane.received[0].payload) == 1_000_000
        device.mqtt._client.publish("iot/v1/fire/d-1/up/reading/d-1", b" " * (MAX_PACKET_BYTES + 1), qos=1)
        async with asyncio.timeout(5):
            await asyncio.wait([device.mqtt._disconnected])
        assert device.mqtt._disconnected.exception() is not None
        assert len(lane.received) == 1


async def test_what_was_queued_for_a_lane_that_was_away_comes_live_and_complete(city: Site) -> None:
    """Live, that is not marked retained: the lanes refuse retained readings."""
    tls = city.service("svc.fire.1.in")
    said = [f"iot/v1/fire/d-1/up/reading/{number}" for number in range(300)]
    async with city.client(FIRE, tls, clean_session=False) as lane:
        await lane.listen("iot/v1/fire/+/up/#")
    async with city.client(FIRE, city.device("d-1")) as device:
        await device.say(*said)
    async with city.client(FIRE, tls, clean_session=False) as lane:
        await lane.until(lambda topics: len(topics) >= len(said))
        assert sorted(lane.topics) == sorted(said)
        assert not any(message.retain for message in lane.received)


async def test_an_expired_revocation_list_locks_everybody_out(tmp_path: Path) -> None:
    """Why the keeper republishes hourly and alarms at 48 h."""
    clock = ManualClock(now_ms=(time.time() - 8 * 86_400) * 1000)
    ours = authority(tmp_path, clock)
    certificate, key, _ = device_files(ours, tmp_path, Anchor.FIRE, "d-1")
    home = BrokerHome(FIRE, tmp_path / "broker", free_port())
    write_home(ours, home)
    with BrokerProcess(home) as broker:
        city = Site(tmp_path, "mosquitto", ours, {FIRE: home}, {FIRE: broker})
        tls = city.tls(certificate, key)
        assert not await accepted(city, FIRE, tls)
        clock.advance(8 * 86_400)
        ours.republish()
        city.republish(FIRE)
        assert await becomes(city, FIRE, tls, wanted=True)
