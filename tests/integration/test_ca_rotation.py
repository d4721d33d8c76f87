"""The authority is changed under a running city: real Mosquitto, old and new devices, nobody is locked out who should not be."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509

from iotcore.clock import ManualClock, SystemClock
from iotcore.errors import StartError
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import BrokerHome, write_home
from iotcore.provision.broker_process import BrokerProcess
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.est_client import EstServer
from iotcore.provision.identity import new_key, own_certificate, store
from iotcore.provision.issuers import Signer
from tests.support.brokers import Client, Site, accepted, becomes
from tests.support.earlier import earlier_authority
from tests.support.enrolling import book, device, listening
from tests.support.pki import PASSPHRASE, authority, device_files, run, trust_file
from tests.support.ports import free_port
from tests.support.requests import p256

FIRE = BrokerName.FIRE
DAY_S = 86_400.0
Made = Callable[[Path], Authority]


def site(folder: Path, ours: Authority) -> tuple[Site, BrokerProcess]:
    home = BrokerHome(FIRE, folder / "broker", free_port())
    write_home(ours, home)
    broker = BrokerProcess(home)
    return Site(folder, "mosquitto", ours, {FIRE: home}, {FIRE: broker}), broker


@pytest.fixture
def city(tmp_path: Path) -> Iterator[Site]:
    made, broker = site(tmp_path, authority(tmp_path))
    with broker:
        yield made


@pytest.fixture
def old_city(tmp_path: Path) -> Iterator[Site]:
    made, broker = site(tmp_path, earlier_authority(tmp_path))
    with broker:
        yield made


def crl_number(signer: Signer) -> int:
    return signer.crl().extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


async def goes_on(client: Client, lane: Client, topic: str) -> None:
    """The session from before is alive: what it says arrives."""
    await client.say(topic)
    await lane.until(lambda topics: topic in topics)


async def rotated_under_load(city: Site, *, new_root: bool) -> None:
    """Old device connected all along; announced, then rotated; old and new both get in; a revocation of either keeps it out."""
    ours = city.authority
    cert, key, old_issued = device_files(ours, city.folder / "old", Anchor.FIRE, "old-1")
    old, lane_tls = city.tls(cert, key), city.service("svc.fire.1.in")
    before = ours.issuers(Anchor.FIRE).signs
    async with city.client(FIRE, lane_tls) as lane, city.client(FIRE, old) as device:
        await lane.listen("iot/v1/fire/+/up/#")
        await goes_on(device, lane, "iot/v1/fire/old-1/up/reading/1")
        announced = ours.announce(Anchor.FIRE, new_root=new_root)
        assert (announced.root != before.root) is new_root
        assert device_files(ours, city.folder / "still", Anchor.FIRE, "still-1")[2].serial
        city.republish(FIRE)
        await goes_on(device, lane, "iot/v1/fire/old-1/up/reading/2")
        assert ours.rotate(Anchor.FIRE).number == announced.number
        cert, key, new_issued = device_files(ours, city.folder / "new", Anchor.FIRE, "new-1")
        assert x509.load_pem_x509_certificate(new_issued.pem).issuer == announced.certificate.subject
        new = city.tls(cert, key)
        assert await becomes(city, FIRE, new, wanted=True)
        async with city.client(FIRE, new) as other:
            await goes_on(other, lane, "iot/v1/fire/new-1/up/reading/1")
            await goes_on(device, lane, "iot/v1/fire/old-1/up/reading/3")
    assert await accepted(city, FIRE, old)
    ours.revoke(Anchor.FIRE, old_issued.serial)
    city.republish(FIRE)
    assert await becomes(city, FIRE, old, wanted=False)
    assert await accepted(city, FIRE, new)
    ours.revoke(Anchor.FIRE, new_issued.serial)
    city.republish(FIRE)
    assert await becomes(city, FIRE, new, wanted=False)
    assert await accepted(city, FIRE, city.device("third-1"))


async def test_a_new_issuing_authority_under_the_same_root(city: Site) -> None:
    await rotated_under_load(city, new_root=False)


async def test_a_new_root(city: Site) -> None:
    await rotated_under_load(city, new_root=True)


async def test_an_installation_of_the_release_before_goes_on_and_is_moved_over(old_city: Site) -> None:
    ours = old_city.authority
    assert ours.trust_pem(Anchor.FIRE) == ours.root_pem(Anchor.FIRE)
    with pytest.raises(StartError, match=r"may sign devices, and no issuing authority\. Give --new-root"):
        ours.announce(Anchor.FIRE)
    await rotated_under_load(old_city, new_root=True)


async def test_of_the_release_before_nothing_is_written_until_it_is_asked_for(tmp_path: Path) -> None:
    ours = earlier_authority(tmp_path)
    before = {path: path.read_bytes() for path in ours.folder.rglob("*") if path.is_file()}
    again = Authority.ensure(ours.folder, PASSPHRASE, SystemClock())
    again.issue_device(Anchor.FIRE, p256().public_key(), "d-1")
    assert {path: path.read_bytes() for path in ours.folder.rglob("*") if path.is_file() and path.name != "lock"} == before


@pytest.mark.parametrize("made", [authority, earlier_authority])
async def test_devices_are_given_the_new_service_root_before_a_broker_shows_it(tmp_path: Path, made: Made) -> None:
    ours = made(tmp_path)
    told_before = ours.root_pem(Anchor.SERVICE)
    announced = ours.announce(Anchor.SERVICE, new_root=True)
    told_after = ours.root_pem(Anchor.SERVICE)
    assert told_after.startswith(told_before)
    assert announced.root in x509.load_pem_x509_certificates(told_after)
    cert, key, _ = device_files(ours, tmp_path / "d", Anchor.FIRE, "d-1")

    def device(trusts: bytes) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=trusts.decode())
        context.load_cert_chain(cert, key)
        return context

    city, broker = site(tmp_path, ours)
    with broker:
        assert await accepted(city, FIRE, device(told_before))
        assert await accepted(city, FIRE, device(told_after))
    ours.rotate(Anchor.SERVICE)
    city, broker = site(tmp_path, ours)
    with broker:
        assert await accepted(city, FIRE, device(told_after))
        assert not await accepted(city, FIRE, device(told_before))  # why it is announced first


async def test_the_key_of_a_root_can_be_elsewhere(tmp_path: Path) -> None:
    ours = authority(tmp_path)
    away = tmp_path / "usb"
    taken = ours.take_root_keys(away)
    assert len(taken) == len(Anchor)
    assert not list(ours.folder.rglob("root.key"))
    ours = Authority.ensure(ours.folder, PASSPHRASE, SystemClock())
    city, broker = site(tmp_path, ours)
    with broker:
        cert, key, issued = device_files(ours, tmp_path / "d", Anchor.FIRE, "d-1")
        tls = city.tls(cert, key)
        assert await accepted(city, FIRE, tls)
        ours.revoke(Anchor.FIRE, issued.serial)
        ours.republish()
        city.republish(FIRE)
        assert await becomes(city, FIRE, tls, wanted=False)
    with pytest.raises(StartError, match=r"is not in .*fire\. Bring the key, and name its file with --root-key"):
        ours.announce(Anchor.FIRE)
    with pytest.raises(StartError, match=r"fire-1-root\.key is not the key of CN=iotcore field root"):
        ours.announce(Anchor.FIELD, root_key=away / "fire-1-root.key")
    ours.announce(Anchor.FIRE, root_key=away / "fire-1-root.key")
    assert ours.rotate(Anchor.FIRE).number == 2


async def test_of_the_release_before_the_key_that_signs_is_not_taken_away(tmp_path: Path) -> None:
    ours = earlier_authority(tmp_path)
    assert ours.take_root_keys(tmp_path / "usb") == []
    Authority.open(ours.folder, PASSPHRASE, SystemClock())


async def test_a_running_process_follows_what_another_rotated(tmp_path: Path) -> None:
    ours = authority(tmp_path)
    other = Authority.open(ours.folder, PASSPHRASE, SystemClock())
    other.announce(Anchor.FIELD)
    other.rotate(Anchor.FIELD)
    issued = x509.load_pem_x509_certificate(ours.issue_device(Anchor.FIELD, p256().public_key(), "d-1").pem)
    assert issued.issuer == other.issuers(Anchor.FIELD).signs.certificate.subject
    ours.republish()
    assert [crl_number(signer) for signer in other.trusted(Anchor.FIELD)] == [3, 2]  # both lists, the new one from its start


async def test_what_was_revoked_before_a_rotation_stays_so_and_the_old_authority_ends_by_itself(tmp_path: Path) -> None:
    clock = ManualClock()
    ours = authority(tmp_path, clock)
    issued = ours.issue_device(Anchor.FIRE, p256().public_key(), "d-1")
    ours.revoke(Anchor.FIRE, issued.serial)
    ours.announce(Anchor.FIRE)
    ours.rotate(Anchor.FIRE)
    clock.advance(90 * DAY_S - 1)
    assert ours.anchor_of(x509.load_pem_x509_certificate(issued.pem)) is Anchor.FIRE
    assert [signer.number for signer in ours.trusted(Anchor.FIRE)] == [2, 1]
    clock.advance(1)
    assert [signer.number for signer in ours.trusted(Anchor.FIRE)] == [2]
    assert ours.anchor_of(x509.load_pem_x509_certificate(issued.pem)) is None
    assert ours.is_revoked(Anchor.FIRE, issued.serial)


async def test_est_gives_the_list_that_a_certificate_names_and_lets_in_what_it_gave(tmp_path: Path) -> None:
    ours, clock = authority(tmp_path), ManualClock(now_ms=SystemClock().wall_ms())
    devices = [device(name, "smoke-heat") for name in ("d-1", "d-2")]
    async with book(tmp_path, devices, clock) as kept, listening(kept, ours, tmp_path, clock) as listener:
        await kept.give("t1", "d-1")
        await kept.give("t2", "d-2")
        server = EstServer(f"https://localhost:{listener.port}", trust_file(ours, tmp_path))
        first = await enrolled(server, tmp_path / "d-1.pem", "d-1", "t1")
        ours.announce(Anchor.FIRE, new_root=True)
        ours.rotate(Anchor.FIRE)
        ours.revoke(Anchor.FIRE, "abc123")
        second = await enrolled(server, tmp_path / "d-2.pem", "d-2", "t2")
        assert first.issuer != second.issuer
        for certificate in (first, second):
            point = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value[0].full_name
            assert point is not None
            crl = await published(server, point[0].value.rsplit("/", 1)[1])
            assert crl.issuer == certificate.issuer
            assert crl.get_revoked_certificate_by_serial_number(0xABC123) is not None
        assert (await published(server, "fire.crl")).issuer == second.issuer
        for name in ("d-1", "d-2"):  # the listener runs since before the second root
            key = new_key(name)
            answer = await asyncio.to_thread(server.renew, key.request, Anchor.FIRE, tmp_path / f"{name}.pem")
            assert own_certificate(answer, key, name).issuer == second.issuer


async def enrolled(server: EstServer, file: Path, name: str, token: str) -> x509.Certificate:
    key = new_key(name)
    answer = await asyncio.to_thread(server.enrol, key.request, Anchor.FIRE, name, token)
    return store(file, key, own_certificate(answer, key, name)).certificate


async def published(server: EstServer, name: str) -> x509.CertificateRevocationList:
    code, out, said = await run("curl", "-sS", "--fail", "--cacert", server.trust, f"{server.url}/crl/{name}")
    assert code == 0, said
    return x509.load_der_x509_crl(out)
