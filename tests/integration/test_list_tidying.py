"""Lines of certificates that have run out leave the lists, after one list was signed with them (RFC 5280, 3.3)."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from iotcore.app.revoking import Revoking
from iotcore.clock import ManualClock
from iotcore.process import home
from iotcore.provision import revoke
from iotcore.provision.acl import BrokerName
from iotcore.provision.ca import Anchor
from iotcore.registry.records import Certificate
from iotcore.registry.store import open_registry
from iotcore.settings import check
from tests.support.ports import free_port
from tests.support.registered import SPECS, city

DAY_S = 86_400.0
HOUR_S = 3_600.0


async def test_what_has_run_out_leaves_after_one_more_list_and_nothing_else_does(tmp_path: Path) -> None:
    clock = ManualClock(now_ms=1_800_000_000_000.0)
    ports = {name.value: {"port": free_port(), "run": "mosquitto"} for name in BrokerName}
    settings = check({"data": str(tmp_path / "data"), "brokers": ports, "metrics": {"port": 0}}, "a test")
    ours = home.prepare(settings, clock)
    async with await open_registry(settings.registry_url, clock) as registry:
        await registry.import_city(city(), SPECS, "test")
        for serial, days in (("a1", 10.0), ("a2", 60.0)):
            until_ms = int(clock.wall_ms() + days * DAY_S * 1000)
            await registry.record_certificate(Certificate(serial, "d1", "fire", until_ms, "ab" * 32), "test")
            await registry.revoke_certificate(serial, "test")
        ours.revoke(Anchor.FIRE, "b1")  # of another registry: nobody knows how long it lasts
        keeper = Revoking(settings, clock)
        await keeper.once(registry)
        assert set(revoke.listed(ours)) == {"a1", "a2", "b1"}
        clock.advance(10 * DAY_S + 60)
        await keeper.once(registry)
        assert set(revoke.listed(ours)) == {"a1", "a2", "b1"}, "no list has been signed since its end"
        keeper.republish()
        clock.advance(HOUR_S)
        await keeper.once(registry)
        assert set(revoke.listed(ours)) == {"a2", "b1"}
        crl = home.broker_home(settings, BrokerName.FIRE).crl.read_bytes()
        assert ours.crl_pem(Anchor.FIRE) in crl, "the broker has the shorter list"
        clock.advance(51 * DAY_S)
        keeper.republish()
        clock.advance(HOUR_S)
        await keeper.once(registry)
        assert set(revoke.listed(ours)) == {"b1"}
        clock.advance(30 * DAY_S)
        keeper.republish()
        clock.advance(HOUR_S)
        await keeper.once(registry)
        assert revoke.listed(ours) == {}


def test_many_are_put_on_a_list_and_taken_off_by_signing_it_once(tmp_path: Path) -> None:
    ports = {name.value: {"port": free_port(), "run": "mosquitto"} for name in BrokerName}
    settings = check({"data": str(tmp_path / "data"), "brokers": ports, "metrics": {"port": 0}}, "a test")
    ours = home.prepare(settings, ManualClock(now_ms=1_800_000_000_000.0))
    many = {f"{number:x}": x509.ReasonFlags.superseded for number in range(1, 3_001)}
    before = number_of(ours.crl_pem(Anchor.FIRE))
    ours.change_lists(Anchor.FIRE, many | {"ffff": x509.ReasonFlags.certificate_hold})
    assert number_of(ours.crl_pem(Anchor.FIRE)) == before + 1
    assert len(revoke.listed(ours)) == 3_001
    ours.change_lists(Anchor.FIRE, {}, ["ffff", "1"], ["2"])
    assert set(many) - set(revoke.listed(ours)) == {"2"}, "only a hold is lifted"
    assert not ours.is_revoked(Anchor.FIRE, "ffff")


def number_of(pem: bytes) -> int:
    return x509.load_pem_x509_crl(pem).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


@pytest.mark.parametrize("length", [0, 20_000])
async def test_asking_of_one_certificate_does_not_read_the_whole_list(length: int, tmp_path: Path) -> None:
    """The same object is handed out until the file is another: a parse of 20,000 lines would make a new one."""
    ports = {name.value: {"port": free_port(), "run": "mosquitto"} for name in BrokerName}
    settings = check({"data": str(tmp_path / "data"), "brokers": ports, "metrics": {"port": 0}}, "a test")
    ours = home.prepare(settings, ManualClock(now_ms=1_800_000_000_000.0))
    if length:
        ours.change_lists(Anchor.FIRE, {f"{number:x}": x509.ReasonFlags.superseded for number in range(1, length + 1)})
    signer = ours.issuers(Anchor.FIRE).signs
    assert ours.revoked_by(signer) is ours.revoked_by(signer)
    assert len(ours.revoked_by(signer)) == length
    ours.republish()
    assert ours.revoked_by(signer) is not None
    assert len(ours.revoked_by(signer)) == length
