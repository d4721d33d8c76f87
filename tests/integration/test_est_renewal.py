"""Renewal over TLS: a certificate that is shown gets another of its kind, and nothing else does. curl, strongSwan, our own."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from iotcore.clock import ManualClock, SystemClock
from iotcore.errors import EnrolmentError
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.est_client import EstServer
from iotcore.provision.identity import NewKey, load, new_key, own_certificate, store
from iotcore.provision.refusals import PER_ADDRESS
from iotcore.web.est import EstListener
from tests.support.enrolling import Book, book, device, listening
from tests.support.pki import PASSPHRASE, authority, device_files, run, trust_file
from tests.support.requests import key_pem, p256, request

REENROL = ".well-known/est{}/simplereenroll"
DAY_MS = 86_400_000.0


@dataclass
class Est:
    """A listener on a free port and a detector with a certificate."""

    listener: EstListener
    authority: Authority
    book: Book
    trust: Path
    folder: Path
    files: tuple[Path, Path]
    serial: str
    server: EstServer = field(init=False)

    def __post_init__(self) -> None:
        self.server = EstServer(f"https://localhost:{self.listener.port}", self.trust)

    async def curl(self, csr: bytes, *, label: str = "", shown: tuple[Path, Path] | None = None) -> tuple[int, bytes]:
        """POST a request with the certificate `shown`: status, body. Status 0: the handshake failed."""
        cert, key = shown or self.files
        _, out, _ = await run(
            *("curl", "-sS", "--cacert", self.trust, "--cert", cert, "--key", key, "-H", "Content-Type: application/pkcs10"),
            *("--data-binary", "@-", "-w", "\n%{http_code}", f"{self.server.url}/{REENROL.format(label)}"),
            stdin=base64.b64encode(csr),
        )
        body, _, status = out.rpartition(b"\n")
        return int(status), body


@pytest.fixture
async def est(tmp_path: Path) -> AsyncIterator[Est]:
    ours = authority(tmp_path)
    cert, key, issued = device_files(ours, tmp_path / "d", Anchor.FIRE, "smoke-1")
    clock = ManualClock(now_ms=SystemClock().wall_ms())
    devices = [device("smoke-1", "smoke-heat"), device("gw-1", "gateway")]
    async with book(tmp_path, devices, clock) as kept, listening(kept, ours, tmp_path, clock) as listener:
        for token in ("t1", "t2"):
            await kept.give(token, "gw-1")
        yield Est(listener, ours, kept, trust_file(ours, tmp_path), tmp_path, (cert, key), issued.serial)


def issued_of(body: bytes) -> x509.Certificate:
    (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))
    return certificate


async def test_curl_renews_with_the_certificate_it_shows_and_a_new_key(est: Est) -> None:
    key = p256()
    status, body = await est.curl(request("smoke-1", key=key))
    assert status == 200, body
    certificate = issued_of(body)
    assert certificate.public_key() == key.public_key()
    assert est.authority.anchor_of(certificate) is Anchor.FIRE
    assert certificate.subject.rfc4514_string() == "CN=smoke-1"
    assert [recorded.serial for recorded in await est.book.recorded()] == [f"{certificate.serial_number:x}"]
    assert not est.authority.is_revoked(Anchor.FIRE, est.serial)


async def test_strongswan_renews(est: Est) -> None:
    key, csr = est.folder / "n.key", est.folder / "n.csr"
    _, pem, _ = await run("pki", "--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem")
    key.write_bytes(pem)
    code, der, said = await run("pki", "--req", "--type", "priv", "--in", key, "--dn", "CN=smoke-1")
    assert code == 0, said
    csr.write_bytes(der)
    roots: list[str | Path] = []
    for number, certificate in enumerate(certificate for anchor in Anchor for certificate in est.authority.chain(anchor)):
        (est.folder / f"ca-{number}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        roots += ["--cacert", est.folder / f"ca-{number}.pem"]
    code, pem, said = await run(
        *("pki", "--est", "--url", f"{est.server.url}/", *roots, "--in", csr),
        *("--cert", est.files[0], "--key", est.files[1], "--outform", "pem"),
    )
    assert code == 0, said
    assert x509.load_pem_x509_certificate(pem).subject.rfc4514_string() == "CN=smoke-1"


async def test_a_revoked_certificate_is_not_renewed(est: Est) -> None:
    est.authority.revoke(Anchor.FIRE, est.serial)
    status, body = await est.curl(request("smoke-1"))
    assert (status, body) == (403, b"certificate: it is revoked\n")
    assert await est.book.refused() == [("renewal_refused", "smoke-1", "certificate: it is revoked")]
    assert await est.book.recorded() == []


async def test_an_expired_certificate_is_not_renewed_and_is_told_why(est: Est, tmp_path: Path) -> None:
    past = ManualClock(now_ms=SystemClock().wall_ms() - 91 * DAY_MS)
    old = device_files(Authority.open(est.authority.folder, PASSPHRASE, past), tmp_path / "old", Anchor.FIRE, "smoke-1")
    status, body = await est.curl(request("smoke-1"), shown=old[:2])
    assert (status, body) == (403, b"certificate: it has expired, or is not valid yet; enrol anew with a token\n")
    ((action, subject, why),) = await est.book.refused()
    assert (action, subject) == ("renewal_refused", "smoke-1")
    assert why.startswith("certificate: it has expired")
    assert await est.book.recorded() == []


async def test_a_device_that_the_registry_no_longer_lets_in_is_not_renewed(est: Est) -> None:
    await est.book.put_out("smoke-1")
    status, body = await est.curl(request("smoke-1"))
    assert (status, body[:41]) == (403, b"anchor: smoke-1 may have no certificate o")


async def test_a_certificate_renews_its_own_anchor_only(est: Est) -> None:
    cert, key, _ = device_files(est.authority, est.folder / "d", Anchor.FIELD, "gw-1")
    status, body = await est.curl(request("gw-1"), label="/fire", shown=(cert, key))
    assert (status, body) == (403, b"anchor: a certificate of the field anchor is renewed as such\n")
    for label in ("", "/field"):
        status, body = await est.curl(request("gw-1"), label=label, shown=(cert, key))
        assert status == 200
        assert est.authority.anchor_of(issued_of(body)) is Anchor.FIELD


async def test_a_request_for_another_name_or_with_another_kind_of_key_is_refused(est: Est) -> None:
    assert (await est.curl(request("smoke-2")))[1].startswith(b"wrong_name: ")
    assert (await est.curl(request("smoke-1", extensions=[x509.BasicConstraints(ca=True, path_length=None)])))[0] == 400
    assert await est.book.recorded() == []


async def test_without_a_certificate_there_is_nothing_to_renew(est: Est) -> None:
    code, out, said = await run(
        *("curl", "-sS", "-w", "%{http_code}", "--cacert", est.trust, "-H", "Content-Type: application/pkcs10"),
        *("--data-binary", "AAAA", f"{est.server.url}/{REENROL.format('')}"),
    )
    assert code == 0, said
    assert out == b"certificate: connect with the certificate that is to be renewed\n403"


async def test_foreign_and_service_certificates_do_not_pass_the_handshake(est: Est, tmp_path: Path) -> None:
    foreign = authority(tmp_path / "foreign")
    pair = est.authority.issue_service("svc.fire.1.in")
    (tmp_path / "svc.pem").write_bytes(pair.certificate.pem)
    (tmp_path / "svc.key").write_bytes(pair.key_pem)
    for shown in (
        device_files(foreign, tmp_path / "f", Anchor.FIRE, "smoke-1")[:2],
        (tmp_path / "svc.pem", tmp_path / "svc.key"),
    ):
        assert (await est.curl(request("smoke-1"), shown=shown))[0] == 0
    assert await est.book.recorded() == []


async def test_an_address_that_is_refused_again_and_again_has_to_wait(est: Est) -> None:
    for _ in range(PER_ADDRESS):
        assert (await est.curl(request("smoke-2")))[0] == 400
    assert (await est.curl(request("smoke-1")))[0] == 429
    gateway = device_files(est.authority, est.folder / "gw", Anchor.FIELD, "gw-1")
    assert (await est.curl(request("gw-1"), shown=gateway[:2]))[0] == 200  # from the same address


async def test_a_device_renews_while_its_address_is_refused_for_another_s_guesses(est: Est) -> None:
    for _ in range(PER_ADDRESS):
        with pytest.raises(EnrolmentError, match="http_401"):
            await _as_a_gateway(est, est.folder / "x.pem", Anchor.FIRE, "wrong")
    with pytest.raises(EnrolmentError, match="http_429"):
        await _as_a_gateway(est, est.folder / "x.pem", Anchor.FIRE, "t1")
    assert (await est.curl(request("smoke-1")))[0] == 200


async def _as_a_gateway(est: Est, file: Path, anchor: Anchor, token: str) -> NewKey:
    key = await asyncio.to_thread(new_key, "gw-1")
    answer = await asyncio.to_thread(est.server.enrol, key.request, anchor, "gw-1", token)
    store(file, key, own_certificate(answer, key, "gw-1"))
    return key


async def test_our_own_client_enrols_for_both_anchors_and_renews_each(est: Est) -> None:
    for anchor, token in ((Anchor.FIRE, "t1"), (Anchor.FIELD, "t2")):
        file = est.folder / "gw" / f"{anchor.value}.pem"
        first = await _as_a_gateway(est, file, anchor, token)
        assert file.stat().st_mode & 0o777 == 0o600
        key = await asyncio.to_thread(new_key, "gw-1")
        answer = await asyncio.to_thread(est.server.renew, key.request, anchor, file)
        renewed = own_certificate(answer, key, "gw-1")
        assert est.authority.anchor_of(renewed) is anchor
        with pytest.raises(EnrolmentError, match="not_ours"):
            own_certificate(answer, first, "gw-1")
        store(file, key, renewed)
        found = load(file, "gw-1")
        assert found is not None
        assert found.certificate == renewed
        assert load(file, "gw-2") is None


async def test_our_own_client_tells_what_the_listener_says(est: Est) -> None:
    with pytest.raises(EnrolmentError, match=r"http_401: token: unknown, used, expired"):
        await _as_a_gateway(est, est.folder / "x.pem", Anchor.FIRE, "wrong")
    with pytest.raises(EnrolmentError, match="unreachable"):
        await asyncio.to_thread(EstServer("https://localhost:1", est.trust).enrol, b"", Anchor.FIRE, "gw-1", "t1")
    (est.folder / "other.pem").write_bytes(authority(est.folder / "other").root_pem(Anchor.SERVICE))
    stranger = EstServer(est.server.url, est.folder / "other.pem")
    with pytest.raises(EnrolmentError, match=r"unreachable.*certificate verify failed"):
        await asyncio.to_thread(stranger.enrol, b"", Anchor.FIRE, "gw-1", "t1")
    with pytest.raises(EnrolmentError, match=r"trust: .*none\.pem cannot be used"):
        await asyncio.to_thread(EstServer(est.server.url, est.folder / "none.pem").enrol, b"", Anchor.FIRE, "gw-1", "t1")
    assert await est.book.open_tokens() == ["gw-1", "gw-1"]


def test_a_file_that_is_half_of_two_identities_is_none(tmp_path: Path) -> None:
    ours = authority(tmp_path)
    issued = ours.issue_device(Anchor.FIRE, p256().public_key(), "gw-1")
    (tmp_path / "i.pem").write_bytes(key_pem(p256()) + issued.pem)
    assert load(tmp_path / "i.pem", "gw-1") is None
    (tmp_path / "i.pem").write_bytes(issued.pem)
    assert load(tmp_path / "i.pem", "gw-1") is None
