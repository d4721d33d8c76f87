"""Hostile enrolments over the real listener: each is refused with its reason, audited, issues nothing and spends no token."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from iotcore.clock import ManualClock, SystemClock
from iotcore.provision.policy import Reason
from tests.support.enrolling import Book, book, device, listening
from tests.support.pki import authority, run, trust_file
from tests.support.requests import key_usage, request

DEVICE = "smoke-1"
TOKEN = "0123456789abcdef0123456789abcdef"


@dataclass
class Est:
    """A listener, its book, and curl."""

    url: str
    trust: Path
    book: Book

    async def enrol(self, body: bytes) -> tuple[int, str]:
        """POST a body as it is: status and answer."""
        code, out, said = await run(
            *("curl", "-sS", "--cacert", self.trust, "-u", f"{DEVICE}:{TOKEN}", "-H", "Content-Type: application/pkcs10"),
            *("--data-binary", "@-", "-w", "\n%{http_code}", f"{self.url}/.well-known/est/simpleenroll"),
            stdin=body,
        )
        assert code == 0, said
        answer, _, status = out.rpartition(b"\n")
        return int(status), answer.decode()

    async def refuses(self, body: bytes, reason: Reason, status: int = 400) -> None:
        got, answer = await self.enrol(body)
        assert (got, answer.partition(":")[0]) == (status, reason.value)
        ((action, subject, why),) = await self.book.refused()
        assert (action, subject, why.partition(":")[0]) == ("enrolment_refused", DEVICE, reason.value)
        assert await self.book.recorded() == []
        got, answer = await self.enrol(base64.b64encode(request(DEVICE)))
        assert got == 200, answer
        assert [issued.cn for issued in await self.book.recorded()] == [DEVICE]


@pytest.fixture
async def est(tmp_path: Path) -> AsyncIterator[Est]:
    ours, clock = authority(tmp_path), ManualClock(now_ms=SystemClock().wall_ms())
    devices = [device(DEVICE, "smoke-heat")]
    async with book(tmp_path, devices, clock) as kept, listening(kept, ours, tmp_path, clock) as listener:
        await kept.give(TOKEN, DEVICE)
        yield Est(f"https://localhost:{listener.port}", trust_file(ours, tmp_path), kept)


def asking(extension: x509.ExtensionType) -> bytes:
    return request(DEVICE, extensions=[extension])


REQUESTS = {
    "a slash": (request("smoke-1/up"), Reason.BAD_NAME),
    "a plus": (request("+"), Reason.BAD_NAME),
    "a plus behind": (request("smoke-1+"), Reason.BAD_NAME),
    "a hash": (request("#"), Reason.BAD_NAME),
    "a zero byte": (request("smoke-1\0"), Reason.BAD_NAME),
    "a zero byte and more": (request("smoke-1\0evil"), Reason.BAD_NAME),
    "a dot": (request("smoke.1"), Reason.BAD_NAME),
    "a service's name": (request("svc.fire.1.in"), Reason.BAD_NAME),
    "a space behind": (request("smoke-1 "), Reason.BAD_NAME),
    "65 characters": (request("s" * 65), Reason.BAD_NAME),
    "a homoglyph": (request("sm\u043eke-1"), Reason.BAD_NAME),  # Cyrillic o
    "two names": (request(DEVICE, "smoke-2"), Reason.BAD_NAME),
    "no name": (request(), Reason.BAD_NAME),
    "another device": (request("smoke-2"), Reason.WRONG_NAME),
    "CA:true": (asking(x509.BasicConstraints(ca=True, path_length=None)), Reason.CA_FLAG),
    "signs certificates": (asking(key_usage(signs_certificates=True)), Reason.CA_FLAG),
    "serverAuth": (asking(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])), Reason.FOREIGN_USAGE),
    "a host's name": (asking(x509.SubjectAlternativeName([x509.DNSName("localhost")])), Reason.FOREIGN_NAME),
    "another's URN": (
        asking(x509.SubjectAlternativeName([x509.UniformResourceIdentifier("urn:dev:iotcore:smoke-2")])),
        Reason.FOREIGN_NAME,
    ),
    "a bad self-signature": (request(DEVICE)[:-1] + b"\0", Reason.NO_POSSESSION),
    "RSA 2048": (request(DEVICE, key=rsa.generate_private_key(65537, 2048)), Reason.KEY_KIND),
    "P-192": (request(DEVICE, key=ec.generate_private_key(ec.SECP192R1())), Reason.KEY_KIND),
    "no DER": (b"\x30\x82\xff\xff" + bytes(range(256)), Reason.NOT_A_REQUEST),
    "cut short": (request(DEVICE)[:-9], Reason.NOT_A_REQUEST),
    "5 KB": (b"\x30" * 5000, Reason.TOO_LARGE),
}


@pytest.mark.parametrize("case", REQUESTS)
async def test_a_hostile_request(est: Est, case: str) -> None:
    csr, reason = REQUESTS[case]
    await est.refuses(base64.b64encode(csr), reason, 413 if reason is Reason.TOO_LARGE else 400)


@pytest.mark.parametrize(
    ("body", "reason", "status"),
    [(b"A" * 1024 * 1024, Reason.TOO_LARGE, 413), (b"*no base64*", Reason.NOT_A_REQUEST, 400), (b"", Reason.NOT_A_REQUEST, 400)],
    ids=["1 MiB", "no base64", "nothing"],
)
async def test_a_body_that_is_no_request(est: Est, body: bytes, reason: Reason, status: int) -> None:
    await est.refuses(body, reason, status)


async def test_rsa_of_512_bits(est: Est, tmp_path: Path) -> None:
    """cryptography makes no such key; openssl does."""
    key, csr = tmp_path / "weak.key", tmp_path / "weak.csr"
    for command in (
        ("genrsa", "-out", key, "512"),
        ("req", "-new", "-key", key, "-subj", f"/CN={DEVICE}", "-outform", "DER", "-out", csr),
    ):
        code, _, said = await run("openssl", *command)
        assert code == 0, said
    await est.refuses(base64.b64encode(csr.read_bytes()), Reason.KEY_KIND)
