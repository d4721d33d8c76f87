"""Enrolment over TLS, with clients that are not ours: curl with openssl, and strongSwan's pki."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7

from iotcore.clock import ManualClock, SystemClock
from iotcore.errors import StartError
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.refusals import PER_ADDRESS, WINDOW_S
from iotcore.web.est import EstListener, server_context
from tests.support.enrolling import Book, book, device, listening
from tests.support.pki import authority, run, trust_file
from tests.support.requests import p256, request

TOKEN = "0123456789abcdef0123456789abcdef"


@dataclass
class Est:
    """A listener on a free port, its book, and how to reach it."""

    listener: EstListener
    authority: Authority
    book: Book
    clock: ManualClock
    trust: Path

    def url(self, path: str) -> str:
        return f"https://localhost:{self.listener.port}/{path}"

    async def enrol(
        self,
        csr: bytes,
        *,
        user: str = "smoke-1",
        token: str = TOKEN,
        label: str = "",
        kind: str = "application/pkcs10",
        body: bytes | None = None,
    ) -> tuple[int, str, bytes]:
        """POST a request: status, content type, body."""
        context = ssl.create_default_context(cafile=str(self.trust))
        basic = base64.b64encode(f"{user}:{token}".encode()).decode()
        headers = {"Content-Type": kind, "Authorization": f"Basic {basic}"}
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
            session.post(
                self.url(f".well-known/est{label}/simpleenroll"), data=body or base64.b64encode(csr), headers=headers
            ) as response,
        ):
            return response.status, response.headers["Content-Type"], await response.read()


@pytest.fixture
async def est(tmp_path: Path) -> AsyncIterator[Est]:
    ours = authority(tmp_path)
    clock = ManualClock(now_ms=SystemClock().wall_ms())
    devices = [device("smoke-1", "smoke-heat"), device("gw-1", "gateway")]
    async with book(tmp_path, devices, clock) as kept, listening(kept, ours, tmp_path, clock) as listener:
        await kept.give(TOKEN, "smoke-1")
        await kept.give("gateway-token", "gw-1")
        yield Est(listener, ours, kept, clock, trust_file(ours, tmp_path))


def cas_in(folder: Path) -> list[Path]:
    """The files that `pki --estca --caout ca.pem` wrote, one a certificate."""
    return sorted(folder.glob("ca*.pem"))


def issued_of(body: bytes) -> x509.Certificate:
    (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))
    return certificate


async def test_curl_and_openssl_enrol_with_a_token(est: Est, tmp_path: Path) -> None:
    key, csr, answer = tmp_path / "d.key", tmp_path / "d.csr", tmp_path / "d.p7"
    await run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    await run("openssl", "req", "-new", "-key", key, "-subj", "/C=VN/O=Maker/CN=smoke-1", "-outform", "DER", "-out", csr)
    code, encoded, _ = await run("openssl", "base64", "-in", csr)  # with line breaks: RFC 8951 lets them pass
    assert code == 0
    code, out, said = await run(
        *("curl", "-sS", "--fail", "--cacert", est.trust, "-u", f"smoke-1:{TOKEN}", "-H", "Content-Type: application/pkcs10"),
        *("--data-binary", "@-", "-D", tmp_path / "headers", est.url(".well-known/est/simpleenroll")),
        stdin=encoded,
    )
    assert code == 0, said
    headers = (tmp_path / "headers").read_text().lower()
    assert "content-type: application/pkcs7-mime; smime-type=certs-only" in headers
    assert b"\n" not in out
    answer.write_bytes(base64.b64decode(out))
    code, pem, said = await run("openssl", "pkcs7", "-inform", "DER", "-in", answer, "-print_certs")
    assert code == 0, said
    (tmp_path / "d.pem").write_bytes(pem)
    (tmp_path / "trust.pem").write_bytes(est.authority.trust_pem(Anchor.FIRE))
    code, out, said = await run(
        "openssl", "verify", "-purpose", "sslclient", "-CAfile", tmp_path / "trust.pem", tmp_path / "d.pem"
    )
    assert code == 0, out.decode() + said
    certificate = x509.load_pem_x509_certificate(pem)
    assert certificate.subject.rfc4514_string() == "CN=smoke-1"
    assert [recorded.serial for recorded in await est.book.recorded()] == [f"{certificate.serial_number:x}"]


async def test_strongswan_enrols_with_a_token(est: Est, tmp_path: Path) -> None:
    key, csr = tmp_path / "d.key", tmp_path / "d.csr"
    _, pem, _ = await run("pki", "--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem")
    key.write_bytes(pem)
    code, der, said = await run("pki", "--req", "--type", "priv", "--in", key, "--dn", "CN=smoke-1")
    assert code == 0, said
    csr.write_bytes(der)
    code, _, said = await run(
        "pki", "--estca", "--url", est.url(""), "--cacert", est.trust, "--caout", tmp_path / "ca.pem", "--outform", "pem"
    )
    assert code == 0, said
    written = cas_in(tmp_path)
    cas_given = {x509.load_pem_x509_certificate(path.read_bytes()) for path in written}
    assert cas_given == {certificate for anchor in Anchor for certificate in est.authority.chain(anchor)}
    cas = [argument for path in written for argument in ("--cacert", path)]
    code, pem, said = await run(
        "pki", "--est", "--url", est.url(""), *cas, "--in", csr, "--userpass", f"smoke-1:{TOKEN}", "--outform", "pem"
    )
    assert code == 0, said
    assert x509.load_pem_x509_certificate(pem).subject.rfc4514_string() == "CN=smoke-1"


async def test_a_token_is_good_once_even_for_two_at_the_same_moment(est: Est) -> None:
    answers = await asyncio.gather(*(est.enrol(request("smoke-1")) for _ in range(5)))
    assert sorted(status for status, _, _ in answers) == [200, 401, 401, 401, 401]
    assert len(await est.book.recorded()) == 1


@pytest.mark.parametrize(
    ("csr", "reason"),
    [
        (request("smoke-2"), "wrong_name"),
        (request("svc.fire.1.in"), "bad_name"),
        (request("smoke-1", extensions=[x509.BasicConstraints(ca=True, path_length=None)]), "ca_flag"),
        (request("smoke-1", extensions=[x509.SubjectAlternativeName([x509.DNSName("localhost")])]), "foreign_name"),
        (request("smoke-1")[:-1] + b"\0", "no_proof_of_possession"),
        (b"nonsense", "not_a_request"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_hostile_request_is_refused_with_its_reason_and_spends_no_token(est: Est, csr: bytes, reason: str) -> None:
    status, kind, body = await est.enrol(csr)
    assert (status, kind) == (400, "text/plain; charset=utf-8")
    assert body.decode().startswith(f"{reason}: ")
    action, subject, told = (await est.book.refused())[-1]
    assert (action, subject) == ("enrolment_refused", "smoke-1")
    assert told.startswith(reason)
    status, _, body = await est.enrol(request("smoke-1"))
    assert status == 200
    assert issued_of(body).subject.rfc4514_string() == "CN=smoke-1"


async def test_nothing_of_a_request_survives_but_its_key(est: Est) -> None:
    key = p256()
    _, _, body = await est.enrol(request("smoke-1", key=key, organisation="Maker Ltd"))
    certificate = issued_of(body)
    assert certificate.subject.rfc4514_string() == "CN=smoke-1"
    assert certificate.public_key() == key.public_key()


@pytest.mark.parametrize(
    ("user", "token"), [("smoke-1", "wrong"), ("smoke-2", TOKEN), ("smoke-1", ""), ("nobody", "gateway-token")]
)
async def test_a_wrong_token_or_device_is_401_and_says_why(est: Est, user: str, token: str) -> None:
    status, _, body = await est.enrol(request(user), user=user, token=token)
    assert status == 401
    assert body.decode().startswith("token: unknown, used, expired")
    assert (await est.enrol(request("smoke-1")))[0] == 200


async def test_no_credentials_at_all_ask_for_basic(est: Est) -> None:
    code, out, said = await run(
        *("curl", "-sS", "-i", "--cacert", est.trust, "-H", "Content-Type: application/pkcs10", "--data-binary", "AAAA"),
        est.url(".well-known/est/simpleenroll"),
    )
    assert code == 0, said
    assert b"401 Unauthorized" in out
    assert b'WWW-Authenticate: Basic realm="iotcore enrolment"' in out


async def test_a_gateway_gets_the_anchor_that_the_path_names_and_others_do_not(est: Est) -> None:
    status, _, body = await est.enrol(request("smoke-1"), label="/field")
    assert (status, body.decode()) == (403, "anchor: smoke-1 gets no certificate of the field anchor\n")
    status, _, body = await est.enrol(request("gw-1"), user="gw-1", token="gateway-token", label="/fire")
    assert status == 200
    assert est.authority.anchor_of(issued_of(body)) is Anchor.FIRE


async def test_bodies_that_are_too_large_or_of_another_type_are_refused(est: Est) -> None:
    assert (await est.enrol(b"", body=b"A" * 20_000))[0] == 413
    assert (await est.enrol(request("smoke-1"), kind="application/json"))[0] == 415
    assert (await est.enrol(b"", body=b"*not base64*"))[2].decode().startswith("not_a_request")
    assert (await est.enrol(request("smoke-1")))[0] == 200


async def test_an_address_that_is_refused_again_and_again_has_to_wait(est: Est) -> None:
    for _ in range(PER_ADDRESS):
        assert (await est.enrol(request("smoke-1"), token="guess"))[0] == 401
    assert (await est.enrol(request("smoke-1")))[0] == 429
    assert len(await est.book.refused()) == PER_ADDRESS
    est.clock.advance(WINDOW_S)
    assert (await est.enrol(request("smoke-1")))[0] == 200


async def test_the_revocation_list_is_published_where_certificates_say(est: Est, tmp_path: Path) -> None:
    est.authority.revoke(Anchor.FIELD, "abcdef0123456789")
    code, out, said = await run("curl", "-sS", "--fail", "--cacert", est.trust, est.url("crl/field.crl"))
    assert code == 0, said
    (tmp_path / "field.crl").write_bytes(out)
    code, text, said = await run("openssl", "crl", "-inform", "DER", "-in", tmp_path / "field.crl", "-noout", "-text")
    assert code == 0, said
    assert b"ABCDEF0123456789" in text
    code, out, _ = await run(
        "curl", "-sS", "-o", tmp_path / "x", "-w", "%{http_code}", "--cacert", est.trust, est.url("crl/x.crl")
    )
    assert out == b"404"


async def test_a_taken_port_is_one_clear_line(est: Est, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        context = server_context(est.authority, tmp_path / "certs", ["localhost"])
        second = EstListener(est.book.enrolment(est.authority), context, est.clock, host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(StartError, match=r"The enrolment listener cannot listen on 127\.0\.0\.1:"):
            await second.start()


async def test_a_client_that_trusts_another_root_does_not_enrol(est: Est, tmp_path: Path) -> None:
    foreign = authority(tmp_path / "foreign")
    est.trust.write_bytes(foreign.root_pem(Anchor.SERVICE))
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await est.enrol(request("smoke-1"))
    assert await est.book.recorded() == []
