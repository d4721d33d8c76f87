"""The listener for vendors' devices that have only a password, on a real Mosquitto beside the listener of certificates."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import aiomqtt
import pytest

from iotcore.provision import vendor_access
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import BrokerHome, write_home
from iotcore.provision.broker_process import BrokerProcess, run
from iotcore.provision.ca import Anchor
from iotcore.registry.directory import Directory
from tests.support.brokers import Client, Site, accepted
from tests.support.pki import authority
from tests.support.ports import free_port
from tests.support.until import until
from tests.support.vendors import DIRECTORY

FIELD = BrokerName.FIELD
LANE = "svc.telemetry.1.field"
SECRETS = {"st-1": "one", "st-2": "two", "off-1": "three", "tb-1": "four"}
OURS, THEIRS = "acme/st-1/measures", "acme/Trạm 2/measures"
TOLD = "iot/v1/air/d-1/up/reading/d-1"


@dataclass
class Door:
    """The broker with both of its listeners."""

    site: Site
    home: BrokerHome

    def vendor(self, user: str | None, password: str | None, client_id: str = "any") -> Client:
        """Who has no certificate."""
        return Client(self.home.password_port, self.site.tls(), client_id, modern=True, user=user, password=password)

    def lane(self, *, clean: bool = True) -> Client:
        return self.site.client(FIELD, self.site.service(LANE), LANE, clean_session=clean)

    async def lets_in(self, user: str | None, password: str | None) -> bool:
        try:
            async with self.vendor(user, password):
                return True
        except aiomqtt.MqttError:
            return False

    def know(self, directory: Directory, secrets: dict[str, str] = SECRETS) -> None:
        """As the keeper does."""
        hashes = {user: vendor_access.hashed(secret, b"salt of test") for user, secret in secrets.items()}
        vendor_access.write(self.home.folder, FIELD, vendor_access.made(directory, hashes, FIELD), passwords=True)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    ours = authority(tmp_path)
    home = BrokerHome(FIELD, tmp_path / "broker", free_port(), password_port=free_port())
    write_home(ours, home)
    made = Door(Site(tmp_path, "mosquitto", ours, {FIELD: home}), home)
    made.know(DIRECTORY)
    return made


@pytest.fixture
def broker(door: Door) -> Iterator[BrokerProcess]:
    with BrokerProcess(door.home) as process:
        yield process


@pytest.fixture
async def served(door: Door) -> AsyncIterator[asyncio.Task[None]]:
    """As `iotcore run broker-field` runs it: it watches its files."""
    serving = asyncio.create_task(run(door.home))
    while not await door.lets_in("st-1", "one"):  # noqa: ASYNC110 - its first moments
        await asyncio.sleep(0.05)
    yield serving
    serving.cancel()
    await asyncio.wait([serving])


@pytest.mark.usefixtures("broker")
async def test_a_device_with_its_password_is_heard_on_its_own_topic_and_nobody_comes_in_without(door: Door) -> None:
    async with door.lane() as lane, door.vendor("st-1", "one") as device:
        await lane.listen("acme/+/measures")
        await device.say(OURS)
        assert await lane.until(bool) == [OURS]
    for user, password in (("st-1", "two"), ("st-1", ""), ("st-1", None), (None, None), ("d-1", "one"), (LANE, "one")):
        assert not await door.lets_in(user, password), (user, password)
    assert not await door.lets_in("off-1", "three")  # suspended: it has no topics, so no way in


@pytest.mark.usefixtures("broker")
async def test_a_password_gives_no_topic_of_another_and_none_of_the_contract_not_even_under_its_own_name(door: Door) -> None:
    async with door.lane() as lane, door.vendor("st-1", "one") as device, door.vendor("tb-1", "four") as gateway:
        await lane.listen("#")
        await device.say(
            THEIRS,
            "acme/st-1",
            f"{OURS}/more",
            "iot/v1/air/st-1/up/reading/st-1",
            "iot/v1/air/st-1/up/status/st-1",
            TOLD,
            "iot/v1/air/d-1/down/command/d-1",
            "v1/gateway/telemetry",
            "iotcore/doctor",
        )
        await gateway.say("v1/gateway/telemetry")
        assert await lane.until(bool) == ["v1/gateway/telemetry"]


@pytest.mark.usefixtures("broker")
async def test_a_password_reads_nothing(door: Door) -> None:
    own = "iot/v1/air/st-1/down/command/st-1"
    async with (
        door.lane() as lane,
        door.vendor("st-1", "one") as device,
        door.vendor("st-2", "two") as other,
        door.site.client(FIELD, door.site.device("d-1", Anchor.FIELD)) as proven,
    ):
        await lane.listen("#")
        await device.listen("#", "iot/v1/#", "acme/#", own, "$SYS/#", OURS)
        await proven.listen("iot/v1/air/d-1/down/#")
        await other.say(THEIRS)
        await proven.say(TOLD)
        await lane.say(own, "iot/v1/air/d-1/down/receipt/d-1")
        assert await proven.until(bool) == ["iot/v1/air/d-1/down/receipt/d-1"]
        assert await lane.until(lambda topics: len(topics) == 2) == [THEIRS, TOLD]
        assert device.topics == []


@pytest.mark.usefixtures("broker")
async def test_the_listener_of_certificates_takes_no_password(door: Door) -> None:
    assert not await accepted(door.site, FIELD, door.site.tls())  # TLS ends before anybody could say a password
    assert not await accepted(door.site, FIELD, door.site.device("d-1", Anchor.FIRE))
    both = Client(door.home.port, door.site.device("d-1", Anchor.FIELD), "any", modern=True, user="st-1", password="one")
    async with door.lane() as lane, both as device:
        await lane.listen("#")
        await device.say(OURS, "iot/v1/air/st-1/up/reading/st-1", TOLD)
        assert await lane.until(bool) == [TOLD]  # it is whom its certificate names


@pytest.mark.usefixtures("broker")
async def test_a_client_id_takes_over_no_session_of_the_other_listener(door: Door) -> None:
    proven = door.site.client(FIELD, door.site.device("d-1", Anchor.FIELD), "d-1", clean_session=False)
    async with door.lane(clean=False) as lane, proven as device:
        await lane.listen("acme/+/measures", "iot/v1/+/+/up/#")
        for victim in (LANE, "d-1"):
            async with door.vendor("st-1", "one", victim) as thief:
                await thief.say(OURS)
        await device.say(TOLD)
        assert await lane.until(lambda topics: len(topics) == 3) == [OURS, OURS, TOLD]


async def test_what_is_said_while_the_lane_is_away_waits_for_it_also_over_a_kill_of_the_broker(door: Door) -> None:
    """With an acl for each listener, Mosquitto must remember by which one an absent client came."""
    door.home.configuration.write_text(door.home.configuration.read_text().replace("_interval 10\n", "_interval 1\n"))
    with BrokerProcess(door.home) as broker:
        async with door.lane(clean=False) as lane:
            await lane.listen("acme/+/measures")
        async with door.vendor("st-1", "one") as device:
            await device.say(OURS)
        async with door.lane(clean=False) as lane:
            assert await lane.until(bool) == [OURS]
        for end in (broker.stop, broker.kill):
            saved = (door.home.folder / "mosquitto.db").stat().st_mtime_ns if (door.home.folder / "mosquitto.db").exists() else 0
            if end == broker.kill:
                await until(lambda saved=saved: (door.home.folder / "mosquitto.db").stat().st_mtime_ns != saved)  # type: ignore[misc]
            end()
            broker.start()
            async with door.vendor("st-1", "one") as device:
                await device.say(OURS)
            async with door.lane(clean=False) as lane:
                assert await lane.until(bool) == [OURS]


@pytest.mark.usefixtures("served")
async def test_who_is_added_suspended_or_given_another_password_counts_within_a_second(door: Door) -> None:
    async def within_a_second(user: str, password: str, *, wanted: bool) -> None:
        async with asyncio.timeout(1.0):
            while await door.lets_in(user, password) is not wanted:  # noqa: ASYNC110 - another program's doing
                await asyncio.sleep(0.02)

    async with door.vendor("st-2", "two") as device:
        states = {**DIRECTORY.devices, "off-1": replace(DIRECTORY.devices["off-1"], state="active")}
        states["st-2"] = replace(states["st-2"], state="suspended")
        door.know(Directory(states), {**SECRETS, "st-1": "another"})
        await within_a_second("off-1", "three", wanted=True)
        await within_a_second("st-2", "two", wanted=False)
        await within_a_second("st-1", "another", wanted=True)
        await within_a_second("st-1", "one", wanted=False)
        async with asyncio.timeout(2.0):
            with contextlib.suppress(aiomqtt.MqttError):  # the one who was in is put out
                while True:
                    await device.mqtt.publish(THEIRS, b"{}", qos=1)
                    await asyncio.sleep(0.05)
    async with door.lane() as lane, door.vendor("off-1", "three") as device:
        await lane.listen("acme/+/measures")
        await device.say("acme/off-1/measures")
        assert await lane.until(bool) == ["acme/off-1/measures"]


def test_a_broker_without_the_listener_has_no_file_of_passwords_and_one_way_in_but_the_admin_s(tmp_path: Path) -> None:
    home = BrokerHome(FIELD, tmp_path / "broker", free_port())
    write_home(authority(tmp_path), home)
    vendor_access.write(home.folder, FIELD, vendor_access.made(DIRECTORY, {"st-1": "x"}, FIELD), passwords=False)
    said = home.configuration.read_text()
    assert said.count("listener ") == 1
    assert not (home.folder / vendor_access.PASSWORDS).exists()
    assert "topic read acme/+/measures" in (home.folder / vendor_access.ACL).read_text()


def test_a_broker_that_starts_again_knows_what_the_keeper_last_told_it(door: Door) -> None:
    files = [door.home.folder / name for name in (*vendor_access.WATCHED, vendor_access.REMEMBERED)]
    before = [path.read_bytes() for path in files]
    write_home(door.site.authority, door.home)
    assert [path.read_bytes() for path in files] == before
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
