"""The authority, judged by OpenSSL's own command line."""

from __future__ import annotations

import asyncio
import re
import ssl
import stat
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from iotcore.clock import ManualClock, SystemClock
from iotcore.errors import StartError
from iotcore.provision import custody
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.profile import device_urn
from iotcore.provision.services import days_left, ensure_service
from tests.support.pki import PASSPHRASE, authority, device_files, run

DAY_S = 86_400.0


def trust(ours: Authority, folder: Path, anchor: Anchor) -> Path:
    """What a broker trusts of an anchor."""
    path = folder / f"{anchor.value}-trust.pem"
    path.write_bytes(ours.trust_pem(anchor))
    return path


async def openssl(*arguments: str | Path) -> tuple[int, str]:
    code, out, err = await run("openssl", *arguments)
    return code, out.decode() + err


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return authority(tmp_path)


@pytest.mark.parametrize("anchor", [Anchor.FIRE, Anchor.FIELD])
async def test_openssl_accepts_a_device_as_a_client_of_its_own_anchor_alone(
    ours: Authority, tmp_path: Path, anchor: Anchor
) -> None:
    certificate, _, _ = device_files(ours, tmp_path, anchor, "d-1")
    for root in Anchor:
        code, said = await openssl(
            *(
                "verify",
                "-x509_strict",
                "-purpose",
                "sslclient",
                "-crl_check",
                "-CRLfile",
                ours.folder / root.value / "1" / "crl.pem",
            ),
            *("-CAfile", trust(ours, tmp_path, root), certificate),
        )
        assert (code == 0) is (root is anchor), said


async def test_a_device_certificate_cannot_be_a_server_or_an_authority(ours: Authority, tmp_path: Path) -> None:
    certificate, key, _ = device_files(ours, tmp_path, Anchor.FIELD, "d-1")
    root = trust(ours, tmp_path, Anchor.FIELD)
    code, said = await openssl("verify", "-purpose", "sslserver", "-CAfile", root, certificate)
    assert code != 0
    assert "unsuitable certificate purpose" in said or "unsupported certificate purpose" in said
    request, child = tmp_path / "child.csr", tmp_path / "child.pem"
    await openssl("req", "-new", "-key", key, "-subj", "/CN=victim", "-out", request)
    await openssl("x509", "-req", "-in", request, "-CA", certificate, "-CAkey", key, "-out", child)
    code, said = await openssl("verify", "-CAfile", root, "-untrusted", certificate, child)
    assert code != 0, said


async def test_a_device_certificate_has_the_profile(ours: Authority, tmp_path: Path) -> None:
    certificate, _, issued = device_files(ours, tmp_path, Anchor.FIRE, "smoke_7")
    _, text = await openssl("x509", "-in", certificate, "-noout", "-text")
    for line in (
        "Subject: CN = smoke_7",
        "CA:FALSE",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "X509v3 Extended Key Usage: \n                TLS Web Client Authentication\n",
        "URI:urn:dev:iotcore:smoke.7",
        "URI:https://localhost:8443/crl/fire-1.crl",
        "X509v3 Authority Key Identifier",
        "X509v3 Subject Key Identifier",
    ):
        assert line in text
    assert "IP Address" not in text
    parsed = x509.load_pem_x509_certificate(issued.pem)
    lifetime = parsed.not_valid_after_utc - parsed.not_valid_before_utc
    assert lifetime.total_seconds() == 90 * DAY_S + 600
    assert parsed.serial_number.bit_length() > 64
    assert issued.serial == f"{parsed.serial_number:x}"


async def test_a_revoked_serial_is_refused_and_stays_so_after_a_republish(ours: Authority, tmp_path: Path) -> None:
    certificate, _, issued = device_files(ours, tmp_path, Anchor.FIRE, "d-1")
    other, _, _ = device_files(ours, tmp_path, Anchor.FIRE, "d-2")
    ours.revoke(Anchor.FIRE, issued.serial, x509.ReasonFlags.key_compromise)
    ours.revoke(Anchor.FIRE, issued.serial)
    ours.republish()
    crl_file = ours.folder / "fire" / "1" / "crl.pem"
    verify = ("verify", "-crl_check", "-CRLfile", crl_file, "-CAfile", trust(ours, tmp_path, Anchor.FIRE))
    code, said = await openssl(*verify, certificate)
    assert code != 0
    assert "certificate revoked" in said
    code, said = await openssl(*verify, other)
    assert code == 0, said
    crl = x509.load_pem_x509_crl(ours.crl_pem(Anchor.FIRE))
    assert len(list(crl)) == 1
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 4


def test_a_hold_is_lifted_or_made_final_and_what_is_final_is_never_lifted(ours: Authority) -> None:
    hold, final = x509.ReasonFlags.certificate_hold, x509.ReasonFlags.key_compromise
    ours.revoke(Anchor.FIRE, "a1", hold)
    ours.revoke(Anchor.FIRE, "a2", final)
    ours.revoke(Anchor.FIRE, "a2", hold)
    ours.lift(Anchor.FIRE, "a2")
    ours.lift(Anchor.FIRE, "a3")
    assert [ours.is_revoked(Anchor.FIRE, serial) for serial in ("a1", "a2", "a3")] == [True, True, False]
    ours.lift(Anchor.FIRE, "a1")
    assert not ours.is_revoked(Anchor.FIRE, "a1")
    ours.revoke(Anchor.FIRE, "a1", hold)
    ours.revoke(Anchor.FIRE, "a1", final)
    ours.lift(Anchor.FIRE, "a1")
    (entry,) = [e for e in x509.load_pem_x509_crl(ours.crl_pem(Anchor.FIRE)) if e.serial_number == 0xA1]
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is final


def test_a_republished_list_lives_seven_days_again(tmp_path: Path) -> None:
    clock = ManualClock()
    ours = authority(tmp_path, clock)
    assert ours.crl_left_s(Anchor.FIELD) == 7 * DAY_S
    clock.advance(6 * DAY_S)
    assert ours.crl_left_s(Anchor.FIELD) == 1 * DAY_S
    ours.republish([Anchor.FIELD])
    assert ours.crl_left_s(Anchor.FIELD) == 7 * DAY_S
    assert ours.crl_left_s(Anchor.FIRE) == 1 * DAY_S


REVOKE_TWENTY = """
import sys
from pathlib import Path
from iotcore.clock import SystemClock
from iotcore.provision.ca import Anchor, Authority
ours = Authority.open(Path(sys.argv[1]), sys.argv[2].encode(), SystemClock())
for serial in range(int(sys.argv[3]), int(sys.argv[3]) + 20):
    ours.revoke(Anchor.FIELD, f"{serial:x}")
"""


async def test_two_processes_that_revoke_at_once_lose_no_entry(ours: Authority) -> None:
    command = (sys.executable, "-c", REVOKE_TWENTY, ours.folder, PASSPHRASE.decode())
    for code, _, said in await asyncio.gather(run(*command, "1000"), run(*command, "2000")):
        assert code == 0, said
    serials = {entry.serial_number for entry in x509.load_pem_x509_crl(ours.crl_pem(Anchor.FIELD))}
    assert serials == {*range(1000, 1020), *range(2000, 2020)}


def test_keys_are_encrypted_and_their_owners_alone(ours: Authority, tmp_path: Path) -> None:
    ensure_service(ours, tmp_path / "certs", "svc.fire.1.in", (), SystemClock())
    keys = list(ours.folder.glob("*/1/*.key"))
    assert len(keys) == 2 * len(Anchor)
    for path in (*keys, tmp_path / "certs" / "svc.fire.1.in.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for path in keys:
        with pytest.raises(TypeError):  # "password was not given but private key is encrypted"
            load_pem_private_key(path.read_bytes(), None)
    leftovers = [path.name for path in tmp_path.rglob(".*")]
    assert leftovers == []


def test_opening_again_gives_the_same_roots(ours: Authority) -> None:
    again = Authority.ensure(ours.folder, PASSPHRASE, SystemClock())
    assert [again.root_pem(anchor) for anchor in Anchor] == [ours.root_pem(anchor) for anchor in Anchor]


def test_a_creation_cut_in_the_middle_is_continued(tmp_path: Path) -> None:
    ours = authority(tmp_path)
    fire = ours.root_pem(Anchor.FIRE)
    (ours.folder / "complete").unlink()
    (ours.folder / "service" / "issuers.json").unlink()
    (ours.folder / "service" / "1" / "issuing.pem").unlink()
    again = authority(tmp_path)
    assert again.root_pem(Anchor.FIRE) == fire
    assert again.crl_left_s(Anchor.SERVICE) > 6 * DAY_S


def test_a_wrong_passphrase_is_one_clear_line(ours: Authority) -> None:
    with pytest.raises(StartError, match=r"issuing\.key does not open with this passphrase\. Give the passphrase"):
        Authority.open(ours.folder, b"not the passphrase", SystemClock())


@pytest.mark.parametrize("lost", ["issuing.key", "issuing.pem", "root.pem", "crl.pem"])
def test_a_lost_file_is_never_silently_made_anew(ours: Authority, lost: str) -> None:
    (ours.folder / "fire" / "1" / lost).unlink()
    with pytest.raises(StartError, match="Restore the folder from the backup"):
        Authority.ensure(ours.folder, PASSPHRASE, SystemClock())


async def test_a_server_certificate_names_its_hosts_and_is_no_client(ours: Authority, tmp_path: Path) -> None:
    path = tmp_path / "server.pem"
    path.write_bytes(ours.issue_service("svc.broker.1.fire", ["broker.example", "127.0.0.1"]).certificate.pem)
    root = tmp_path / "root.pem"
    root.write_bytes(ours.root_pem(Anchor.SERVICE))  # the root alone: the authority between comes with the certificate
    for check in (("-verify_hostname", "broker.example"), ("-verify_ip", "127.0.0.1")):
        code, said = await openssl(
            "verify", "-x509_strict", "-purpose", "sslserver", *check, "-untrusted", path, "-CAfile", root, path
        )
        assert code == 0, said
    code, _ = await openssl("verify", "-purpose", "sslclient", "-untrusted", path, "-CAfile", root, path)
    assert code != 0


def test_a_service_certificate_is_kept_until_half_its_life_is_over(tmp_path: Path) -> None:
    clock = ManualClock()
    ours = authority(tmp_path, clock)
    cert_file, key_file = ensure_service(ours, tmp_path / "certs", "svc.fire.1.in", (), clock)
    first = cert_file.read_bytes()
    clock.advance(150 * DAY_S)
    ensure_service(ours, tmp_path / "certs", "svc.fire.1.in", (), clock)
    assert cert_file.read_bytes() == first
    clock.advance(60 * DAY_S)
    ensure_service(ours, tmp_path / "certs", "svc.fire.1.in", (), clock)
    assert cert_file.read_bytes() != first
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert_file, key_file)  # they belong together


def test_a_service_certificate_of_another_authority_is_replaced(ours: Authority, tmp_path: Path) -> None:
    cert_file, _ = ensure_service(authority(tmp_path / "other"), tmp_path / "certs", "svc.fire.1.in", (), SystemClock())
    foreign = cert_file.read_bytes()
    ensure_service(ours, tmp_path / "certs", "svc.fire.1.in", (), SystemClock())
    assert cert_file.read_bytes() != foreign


def test_a_server_certificate_is_replaced_when_its_names_change(ours: Authority, tmp_path: Path) -> None:
    cert_file, _ = ensure_service(ours, tmp_path, "svc.web.1.est", ["localhost", "127.0.0.1"], SystemClock())
    first = cert_file.read_bytes()
    ensure_service(ours, tmp_path, "svc.web.1.est", ["localhost", "127.0.0.1"], SystemClock())
    assert cert_file.read_bytes() == first
    ensure_service(ours, tmp_path, "svc.web.1.est", ["iot.example", "127.0.0.1"], SystemClock())
    assert cert_file.read_bytes() != first
    assert 364 < days_left(cert_file, SystemClock()) < 365


def test_the_passphrase_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first = custody.passphrase(tmp_path / "ca", {})
    assert custody.passphrase(tmp_path / "ca", {}) == first
    assert len(first) >= 40
    path = tmp_path / "ca" / "passphrase"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with pytest.raises(StartError, match="can be read by others"):
        custody.passphrase(tmp_path / "ca", {})


def test_the_environment_wins_over_the_file_and_must_be_long(tmp_path: Path) -> None:
    assert custody.passphrase(tmp_path / "ca", {"IOTCORE_CA_PASSPHRASE": "sixteen letters!"}) == b"sixteen letters!"
    assert not (tmp_path / "ca" / "passphrase").exists()
    with pytest.raises(StartError, match="fewer than 16"):
        custody.passphrase(tmp_path / "ca", {"IOTCORE_CA_PASSPHRASE": "short"})


def test_a_lost_passphrase_is_not_replaced_by_a_new_one(ours: Authority) -> None:
    with pytest.raises(StartError, match="passphrase of the certificate authority is missing"):
        custody.passphrase(ours.folder, {})


@pytest.mark.parametrize("name", ["a", "a_b", "_", "__a--b__", "A-9_z"])
def test_every_device_name_makes_a_valid_urn(name: str) -> None:
    # RFC 9039, 3.2: subtype ":" identifier, identifier = 1*(ALPHA / DIGIT / "." / "-")
    assert re.fullmatch(r"urn:dev:iotcore:[A-Za-z0-9.-]+", device_urn(name))
