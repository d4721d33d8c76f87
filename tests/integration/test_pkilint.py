"""Everything that the authority signs, judged by pkilint; what it says beside two known findings fails the test.

Known: it takes every `urn:dev:` (RFC 9039) for a URI of wrong syntax, and `localhost`, one label (RFC 1034, 3.5), for no name.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from iotcore.clock import SystemClock
from iotcore.provision.ca import Anchor, Authority
from tests.support.earlier import earlier_authority
from tests.support.pki import PASSPHRASE, run
from tests.support.requests import p256

CRL_URL = "https://iot.danang.example:8443/crl"
PROGRAMS = Path(sys.executable).parent
Finding = tuple[str, str]  # code, the part of the message that names the value

URN = ("pkix.invalid_uri_syntax", 'Invalid URI syntax: "urn:dev:iotcore:{}"')
LOOPBACK = ("pkix.invalid_domain_name_syntax", 'Invalid domain name syntax: "localhost"')


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority.ensure(tmp_path / "ca", PASSPHRASE, SystemClock(), CRL_URL)


async def lint(program: str, *arguments: str | Path) -> list[Finding]:
    """What pkilint finds, from a notice upwards."""
    code, out, said = await run(PROGRAMS / program, "lint", "-s", "NOTICE", "-f", "JSON", *arguments)
    assert out, said
    results: list[dict[str, Any]] = json.loads(out)["results"]
    found = [(finding["code"], finding.get("message", "")) for result in results for finding in result["finding_descriptions"]]
    assert code == len(found), said  # it ends with how many it found
    return found


async def lint_certificate(certificate: x509.Certificate, above: x509.Certificate, folder: Path) -> list[Finding]:
    """Findings of a certificate, and of it under its issuer."""
    file, issuer = folder / "linted.pem", folder / "issuer.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    issuer.write_bytes(above.public_bytes(Encoding.PEM))
    assert await lint("lint_pkix_signer_signee_cert_chain", issuer, file) == []
    return await lint("lint_pkix_cert", file)


async def lint_lists(ours: Authority, anchor: Anchor) -> list[Finding]:
    """Findings of every revocation list of an anchor."""
    lists = [signer.crl_file for signer in ours.trusted(anchor)]
    return [finding for file in lists for finding in await lint("lint_crl", "-t", "CRL", "-p", "PKIX", file)]


def of(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


async def test_roots_and_issuing_authorities(ours: Authority, tmp_path: Path) -> None:
    ours.announce(Anchor.FIRE, new_root=True)
    ours.rotate(Anchor.FIRE)
    ours.announce(Anchor.FIRE)
    ours.rotate(Anchor.FIRE)
    for anchor, count in ((Anchor.FIRE, 3), (Anchor.FIELD, 1), (Anchor.SERVICE, 1)):
        signers = ours.trusted(anchor)
        assert len(signers) == count
        for signer in signers:
            assert await lint_certificate(signer.certificate, signer.root, tmp_path) == []
            file = tmp_path / "root.pem"
            file.write_bytes(signer.root.public_bytes(Encoding.PEM))
            assert await lint("lint_pkix_cert", file) == []


@pytest.mark.parametrize("name", ["smoke-0001", "a_b", "x" * 64])
@pytest.mark.parametrize("anchor", [Anchor.FIRE, Anchor.FIELD])
async def test_devices(ours: Authority, tmp_path: Path, anchor: Anchor, name: str) -> None:
    above = ours.issuers(anchor).signs.certificate
    known = [(URN[0], URN[1].format(name.replace("_", ".")))]
    for key in (p256(), ed25519.Ed25519PrivateKey.generate()):
        issued = of(ours.issue_device(anchor, key.public_key(), name).pem)
        assert await lint_certificate(issued, above, tmp_path) == known


async def test_services_and_servers(ours: Authority, tmp_path: Path) -> None:
    above = ours.issuers(Anchor.SERVICE).signs.certificate
    names = ["iot.danang.example", "192.0.2.7", "2001:db8::7"]
    for made in (ours.issue_service("svc.fire.1.in"), ours.issue_service("svc.broker.1.fire", names)):
        assert await lint_certificate(of(made.certificate.pem), above, tmp_path) == []
    papers = ours.issue_service("svc.web.1.papers", signs_documents=True)
    assert await lint_certificate(of(papers.certificate.pem), above, tmp_path) == []
    with_loopback = ours.issue_service("svc.broker.1.fire", ["localhost", "127.0.0.1", *names])
    assert await lint_certificate(of(with_loopback.certificate.pem), above, tmp_path) == [LOOPBACK]


async def test_revocation_lists(ours: Authority) -> None:
    assert await lint_lists(ours, Anchor.FIELD) == []
    for number, reason in enumerate(x509.ReasonFlags):
        if reason not in {x509.ReasonFlags.remove_from_crl, x509.ReasonFlags.aa_compromise}:
            ours.revoke(Anchor.FIELD, f"{0xABCDEF0123456789ABCDEF + number:x}", reason)
    ours.announce(Anchor.FIELD)
    ours.rotate(Anchor.FIELD)
    ours.revoke(Anchor.FIELD, "1234567890abcdef")
    ours.republish()
    assert [len(signer.crl()) for signer in ours.trusted(Anchor.FIELD)] == [9, 9]
    for anchor in Anchor:
        assert await lint_lists(ours, anchor) == []


async def test_an_authority_of_the_release_before(tmp_path: Path) -> None:
    earlier_authority(tmp_path)
    ours = Authority.open(tmp_path / "ca", PASSPHRASE, SystemClock(), CRL_URL)
    ours.revoke(Anchor.FIRE, "1234567890abcdef")
    issued = of(ours.issue_device(Anchor.FIRE, p256().public_key(), "d-1").pem)
    assert await lint_certificate(issued, ours.root(Anchor.FIRE), tmp_path) == [(URN[0], URN[1].format("d-1"))]
    assert await lint_lists(ours, Anchor.FIRE) == []


async def test_the_linter_would_say_what_is_wrong(ours: Authority, tmp_path: Path) -> None:
    """A certificate under an issuer that did not sign it, and a list that claims to be of authorities."""
    issued = of(ours.issue_device(Anchor.FIRE, p256().public_key(), "d-1").pem)
    files = [tmp_path / "issuer.pem", tmp_path / "d.pem"]
    for file, certificate in zip(files, (ours.root(Anchor.FIELD), issued), strict=True):
        file.write_bytes(certificate.public_bytes(Encoding.PEM))
    assert await lint("lint_pkix_signer_signee_cert_chain", *files) != []
