"""A certificate follows another under load, on a real Mosquitto with the keeper at work: nothing is lost, no gap, no will.

The old certificate ends only when the new one has connected, and without the session's end; a device that never says so keeps it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from drivers.outbox import Outbox
from drivers.uplink import Uplink
from iotcore.app.common import anchors_of
from iotcore.app.revoking import Revoking
from iotcore.clock import SystemClock
from iotcore.gateway.side import Side
from iotcore.provision import revoke
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import refresh_crl
from iotcore.provision.ca import Anchor
from iotcore.provision.confirm import Confirmation
from iotcore.provision.enroll import Enrolment
from iotcore.provision.est_client import EstServer
from iotcore.provision.gateway import OverEst, Upkeep
from iotcore.provision.revoke import Reason
from iotcore.registry.admissions import Admissions
from iotcore.web import confirm
from iotcore.web.est import EstListener, server_context
from iotcore.wire.arrival import Endpoint
from iotcore.wire.messages import StatusMessage
from simulators.enrol import Identity, enrol
from simulators.mqtt_device import MqttDevice
from simulators.renewal import renew, rotate
from tests.support.brokers import accepted
from tests.support.core_stand_in import CoreStandIn
from tests.support.pki import device_files, service_files, trust_file
from tests.support.registered import SPECS
from tests.support.revoking import Cell, cell
from tests.support.until import until

CLOCK = SystemClock()
FIRE = BrokerName.FIRE
EVERY_S = 0.005  # 200 readings a second
GAP_LIMIT_S = 1.0  # between two readings at the core, with everything on two shared cores; a broken link takes longer
ROTATIONS = 3


@dataclass(frozen=True, slots=True)
class Town:
    """A cell whose keeper runs, its enrolment listener, and a core that listens at the fire broker."""

    cell: Cell
    est: EstListener
    core: CoreStandIn
    folder: Path
    broker: Endpoint  # as the core meets it

    @property
    def url(self) -> str:
        return f"https://localhost:{self.est.port}"

    def endpoint(self, file: Path) -> Endpoint:
        return Endpoint(self.broker.host, self.broker.port, self.broker.ca_file, file, file)

    async def token(self, device: str) -> str:
        return await self.cell.registry.create_token(device, 600.0, "test")

    async def serials(self, device: str) -> list[str]:
        """Of its certificates, oldest first."""
        return [one.serial for one in reversed(await self.cell.registry.certificates(device))]

    def reason(self, serial: str) -> Reason | None:
        entry = revoke.listed(self.cell.authority).get(serial)
        return entry.reason if entry else None

    async def ends(self, serial: str) -> None:
        """Wait until it is on the list as superseded."""
        await until(lambda: self.reason(serial) is Reason.superseded, 15.0)

    def longest_gap_s(self) -> float:
        """Between two readings that came one after the other."""
        moments = [taken.at_s for taken in self.core.readings]
        return max(later - earlier for earlier, later in pairwise(moments))

    def states(self) -> list[str]:
        """What was said of presence, retained messages not counted."""
        said = [taken for taken in self.core.taken if taken.topic.kind == "status" and not taken.retained]
        return [msgspec.json.decode(taken.payload, type=StatusMessage).state for taken in said]

    def lost(self, count: int) -> set[int]:
        return set(range(1, count + 1)) - {taken.message.seq for taken in self.core.readings}


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with cell(tmp_path, names=[FIRE]) as made, contextlib.AsyncExitStack() as stack:
        ours, registry = made.authority, made.registry

        admissions = await stack.enter_async_context(Admissions(registry.database, lambda model: anchors_of(SPECS, model)))
        enrolment = Enrolment(ours, admissions.admit, admissions.refuse)
        confirmation = Confirmation(
            ours, registry.refuses_certificate, lambda serial: registry.confirm_certificate(serial, "est")
        )
        tls = server_context(ours, tmp_path / "est", ["localhost"])
        est = await stack.enter_async_context(
            EstListener(enrolment, tls, CLOCK, host="127.0.0.1", port=0, extras=(confirm.route(confirmation),))
        )
        keeping = asyncio.create_task(Revoking(made.settings, CLOCK, supersede_s=0.0).follow(registry))
        broker = Endpoint(
            "127.0.0.1", made.site.homes[FIRE].port, trust_file(ours, tmp_path), *service_files(ours, tmp_path, "svc.fire.1.in")
        )
        core = await stack.enter_async_context(CoreStandIn(broker, name="svc.fire.1.in"))
        yield Town(made, est, core, tmp_path, broker)
        keeping.cancel()
        await asyncio.wait({keeping})


@contextlib.asynccontextmanager
async def flow(put: Callable[[], Awaitable[int]], every_s: float = EVERY_S) -> AsyncIterator[list[int]]:
    """A reading each `every_s`."""
    numbers: list[int] = []
    stop = asyncio.Event()

    async def run() -> None:
        while not stop.is_set():
            numbers.append(await put())
            await asyncio.sleep(every_s)

    task = asyncio.create_task(run())
    try:
        yield numbers
    finally:
        stop.set()
        await task


async def more(numbers: list[int]) -> None:
    """Wait until readings have flowed for another second."""
    seen = len(numbers)
    await until(lambda: len(numbers) > seen + 100, 15.0)


async def test_a_gateway_renews_under_load_again_and_again(town: Town) -> None:
    source = OverEst(EstServer(town.url, town.broker.ca_file), Anchor.FIRE, "gw-1", await town.token("gw-1"))
    upkeep = Upkeep(town.folder / "gw", "gw-1", Anchor.FIRE, source, CLOCK)
    async with Outbox(town.folder / "o.db", CLOCK) as outbox:
        side = Side(outbox, upkeep, town.endpoint, lambda endpoint, box: Uplink(endpoint, "gw-1", box, CLOCK))
        running = asyncio.create_task(side.run())
        await until(lambda: side.uplink is not None and side.uplink.connected, 15.0)
        assert side.uplink is not None

        async def put() -> int:
            return (await outbox.put("fire", "p1", {"alarm": True})).seq

        async with flow(put) as numbers:
            for _ in range(ROTATIONS):
                old = (await town.serials("gw-1"))[-1]
                await upkeep.renew(side.switch)
                await town.ends(old)
                await more(numbers)
        connections = side.uplink.counters.connections
        await until(lambda: outbox.rows == 0, 15.0)
        running.cancel()
        await asyncio.wait({running})
    assert connections == 1 + ROTATIONS, "the list has put nobody out"
    assert town.states() == ["online"] * (1 + ROTATIONS) + ["offline"], "no will, and a goodbye at the end"
    assert town.lost(max(numbers)) == set()
    assert town.longest_gap_s() < GAP_LIMIT_S
    serials = await town.serials("gw-1")
    assert [town.reason(serial) for serial in serials] == [Reason.superseded] * ROTATIONS + [None]


async def detector(town: Town, name: str = "d1") -> tuple[Identity, MqttDevice]:
    identity = await enrol(town.url, await town.token(name), name, town.broker.ca_file, town.folder / name)
    return identity, MqttDevice(name, SPECS["smoke-heat"], identity.endpoint("127.0.0.1", town.broker.port))


async def test_a_device_of_any_maker_renews_under_load_and_the_old_certificate_is_refused_from_then_on(town: Town) -> None:
    identity, device = await detector(town)
    old = town.folder / "old.pem"
    old.write_bytes(identity.cert_file.read_bytes() + identity.key_file.read_bytes())
    async with device:
        await until(lambda: device.connected, 15.0)
        async with flow(lambda: device.report({"smoke": 0.0}), 0.01) as numbers:
            await until(lambda: len(numbers) > 100, 15.0)
            await rotate(device, town.url, identity, "127.0.0.1", town.broker.port)
            serials = await town.serials("d1")
            await town.ends(serials[0])
            await more(numbers)
            assert not await accepted(town.cell.site, FIRE, town.cell.site.tls(old))
        await until(lambda: device.held == 0, 15.0)
        assert device.counters.connections == 2, "the list has not put it out"
    assert town.lost(max(numbers)) == set()
    assert town.longest_gap_s() < GAP_LIMIT_S
    assert town.states() == ["online", "online", "offline"]
    assert town.reason(serials[1]) is None


async def test_who_never_says_that_the_new_one_has_connected_keeps_the_old_one(town: Town) -> None:
    identity, device = await detector(town)
    following = await renew(town.url, identity, "d1")
    async with device:
        await until(lambda: device.connected, 15.0)
        assert await device.go_over(following.endpoint("127.0.0.1", town.broker.port))
        assert await device.go_over(identity.endpoint("127.0.0.1", town.broker.port)), "the old one is good still"
    assert [town.reason(serial) for serial in await town.serials("d1")] == [None, None]


async def test_a_new_one_that_the_broker_refuses_leaves_the_old_one_in_use(town: Town) -> None:
    identity, device = await detector(town)
    certificate, key, _ = device_files(town.cell.authority, town.folder, Anchor.FIELD, "d1")
    strange = Identity(identity.ca_file, certificate, key)
    async with device:
        await until(lambda: device.connected, 15.0)
        assert not await device.go_over(strange.endpoint("127.0.0.1", town.broker.port), limit_s=2.0)
        await until(lambda: device.connected, 15.0)
    assert town.reason((await town.serials("d1"))[0]) is None


async def test_only_a_certificate_that_counts_can_say_so(town: Town, tmp_path: Path) -> None:
    identity, _ = await detector(town)
    server = EstServer(town.url, town.broker.ca_file)
    both = tmp_path / "both.pem"
    both.write_bytes(identity.key_file.read_bytes() + identity.cert_file.read_bytes())
    await asyncio.to_thread(server.confirm, both)
    (serial,) = await town.serials("d1")
    await town.cell.registry.revoke_certificate(serial, "test")
    with pytest.raises(Exception, match="http_403: certificate: it is revoked"):
        await asyncio.to_thread(server.confirm, both)
    stranger = town.cell.authority.issue_service("svc.fire.9.in")
    other = tmp_path / "other.pem"
    other.write_bytes(stranger.key_pem + stranger.certificate.pem)
    assert x509.load_pem_x509_certificate(stranger.certificate.pem)
    with pytest.raises(Exception, match=r"unreachable|http_403"):
        await asyncio.to_thread(server.confirm, other)


@pytest.mark.parametrize("new_root", [False, True])
async def test_an_authority_follows_another_under_load_with_both_trusted(town: Town, new_root: bool) -> None:  # noqa: FBT001
    """Announced, rotated, renewed under the new one, while the old one is good still for another device: no gap in any of it."""
    ours, home = town.cell.authority, town.cell.site.homes[FIRE]
    other, _ = await detector(town, "d1")
    before = ours.issuers(Anchor.FIRE).signs
    source = OverEst(EstServer(town.url, town.broker.ca_file), Anchor.FIRE, "gw-1", await town.token("gw-1"))
    upkeep = Upkeep(town.folder / "gw", "gw-1", Anchor.FIRE, source, CLOCK)
    async with Outbox(town.folder / "o.db", CLOCK) as outbox:
        side = Side(outbox, upkeep, town.endpoint, lambda endpoint, box: Uplink(endpoint, "gw-1", box, CLOCK))
        running = asyncio.create_task(side.run())
        await until(lambda: side.uplink is not None and side.uplink.connected, 15.0)
        assert side.uplink is not None

        async def put() -> int:
            return (await outbox.put("fire", "p1", {"alarm": True})).seq

        async with flow(put) as numbers:
            ours.announce(Anchor.FIRE, new_root=new_root)
            refresh_crl(ours, home)
            await more(numbers)
            after = ours.rotate(Anchor.FIRE)
            refresh_crl(ours, home)
            await more(numbers)
            assert side.uplink.counters.connections == 1, "nobody is put out by it"
            await upkeep.renew(side.switch)
            await more(numbers)
            old = town.cell.site.tls(other.cert_file, other.key_file)
            assert await accepted(town.cell.site, FIRE, old), "whoever has not renewed comes in as before"
        await until(lambda: outbox.rows == 0, 15.0)
        running.cancel()
        await asyncio.wait({running})
    renewed = x509.load_pem_x509_certificate(upkeep.file.read_bytes())
    assert (renewed.issuer, before.certificate.subject != renewed.issuer) == (after.certificate.subject, True)
    assert (after.root != before.root) is new_root
    assert town.lost(max(numbers)) == set()
    assert town.longest_gap_s() < GAP_LIMIT_S
    assert town.states() == ["online", "online", "offline"]
