"""Hostile enrolments over the real listener: each is refused with its reason, audited, issues nothing and spends no token."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector, encode_basic_auth
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from iotcore.clock import ManualClock, SystemClock
from iotcore.provision.policy import Reason
from iotcore.provision.refusals import AUDITED, PER_ADDRESS, WINDOW_S
from iotcore.registry.claims import UnitEntry
from iotcore.registry.tokens import hash_of
from iotcore.web.est import EstListener
from tests.support.enrolling import Book, book, device, listening
from tests.support.pki import authority, run, trust_file
from tests.support.requests import key_usage, p256, request

DEVICE = "smoke-1"
TOKEN = "0123456789abcdef0123456789abcdef"
DAY_S = 86_400.0


@dataclass
class Est:
    """A listener, its book, and curl."""

    url: str
    trust: Path
    book: Book
    clock: ManualClock
    listener: EstListener

    async def enrol(self, body: bytes, user: str = DEVICE, secret: str = TOKEN) -> tuple[int, str]:
        """POST a body as it is: status and answer."""
        code, out, said = await run(
            *("curl", "-sS", "--cacert", self.trust, "-u", f"{user}:{secret}", "-H", "Content-Type: application/pkcs10"),
            *("--data-binary", "@-", "-w", "\n%{http_code}", f"{self.url}/.well-known/est/simpleenroll"),
            stdin=body,
        )
        assert code == 0, said
        answer, _, status = out.rpartition(b"\n")
        return int(status), answer.decode()

    async def whys(self) -> list[str]:
        """What only the audit says of refusals."""
        entries = await self.book.registry.audit_entries(limit=10_000)
        return [json.loads(e.deed.detail)["why"] for e in entries if e.deed.action == "enrolment_refused"]

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
    devices = [device(DEVICE, "smoke-heat"), device("smoke-2", "smoke-heat")]
    async with book(tmp_path, devices, clock) as kept, listening(kept, ours, tmp_path, clock) as listener:
        await kept.give(TOKEN, DEVICE)
        yield Est(f"https://localhost:{listener.port}", trust_file(ours, tmp_path), kept, clock, listener)


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


async def test_a_token_used_fifty_times_at_once_makes_one_certificate(est: Est) -> None:
    tls = ssl.create_default_context(cafile=str(est.trust))
    headers = {"Authorization": encode_basic_auth(DEVICE, TOKEN), "Content-Type": "application/pkcs10"}
    async with ClientSession(connector=TCPConnector(ssl=tls, limit=0), headers=headers) as session:

        async def ask() -> int:
            body = base64.b64encode(request(DEVICE))
            async with session.post(f"{est.url}/.well-known/est/simpleenroll", data=body) as response:
                return response.status

        statuses = await asyncio.gather(*(ask() for _ in range(50)))
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 401, 429}  # so many refusals of one address at once
    assert [issued.cn for issued in await est.book.recorded()] == [DEVICE]
    assert await est.book.registry.verify_audit() == []


async def test_a_token_whose_time_is_over(est: Est) -> None:
    est.clock.advance(DAY_S)
    status, answer = await est.enrol(base64.b64encode(request(DEVICE)))
    assert (status, answer.partition(":")[0]) == (401, "token")
    assert await est.whys() == ["expired"]
    assert await est.book.recorded() == []


async def test_a_token_of_another_device_and_a_secret_of_another_unit(est: Est) -> None:
    lot = [UnitEntry("smoke-heat", serial, hash_of(f"secret {serial}")) for serial in ("SN1", "SN2")]
    await est.book.enrolments.tell("lot", lot, DAY_S, "maker")
    await est.book.enrolments.bind("SN2", "smoke-2", "technician")
    for user, secret in (("smoke-2", TOKEN), ("SN2", "secret SN1"), ("SN2", TOKEN), (DEVICE, "secret SN2")):
        status, answer = await est.enrol(base64.b64encode(request(user)), user, secret)
        assert (status, answer.partition(":")[0]) == (401, "token")
    assert await est.whys() == ["wrong_device", "unknown", "wrong_device", "unknown"]
    assert await est.book.recorded() == []


async def test_guesses_at_speed_are_slowed_and_do_not_flood_the_audit(est: Est) -> None:
    tls = ssl.create_default_context(cafile=str(est.trust))
    body = base64.b64encode(request(DEVICE))
    statuses: list[int] = []
    async with ClientSession(connector=TCPConnector(ssl=tls)) as session:
        for number in range(200):
            headers = {"Authorization": encode_basic_auth(DEVICE, f"guess {number}"), "Content-Type": "application/pkcs10"}
            async with session.post(f"{est.url}/.well-known/est/simpleenroll", data=body, headers=headers) as response:
                statuses.append(response.status)
                if response.status == 429:
                    assert 1 <= int(response.headers["Retry-After"]) <= WINDOW_S
    assert statuses == [401] * PER_ADDRESS + [429] * (200 - PER_ADDRESS)
    assert len(await est.book.refused()) == PER_ADDRESS
    assert est.listener.refusals.state() == {"refused_lately": PER_ADDRESS, "refused_burst": True}
    assert est.listener.refusals.limited == 200 - PER_ADDRESS
    est.clock.advance(WINDOW_S)
    assert est.listener.refusals.state() == {"refused_lately": 0, "refused_burst": False}
    assert (await est.enrol(base64.b64encode(request(DEVICE))))[0] == 200


async def test_a_burst_over_the_audit_s_share_is_one_entry(est: Est) -> None:
    for number in range(AUDITED - 1):  # from other addresses
        est.listener.refusals.note(f"192.0.2.{number}")
    for _ in range(5):
        assert (await est.enrol(base64.b64encode(request(DEVICE)), DEVICE, "guess"))[0] == 401
    actions = await est.book.actions()
    assert (actions.count("enrolment_refused"), actions.count("enrolment_burst")) == (1, 1)


async def test_a_key_that_another_device_has(est: Est) -> None:
    key = p256()
    await est.book.give("second", "smoke-2")
    assert (await est.enrol(base64.b64encode(request("smoke-2", key=key)), "smoke-2", "second"))[0] == 200
    status, answer = await est.enrol(base64.b64encode(request(DEVICE, key=key)))
    assert (status, answer.partition(":")[0]) == (403, "key_elsewhere")
    ((action, subject, why),) = await est.book.refused()
    assert (action, subject, why.partition(":")[0]) == ("enrolment_refused", DEVICE, "key_elsewhere")
    assert [issued.cn for issued in await est.book.recorded()] == ["smoke-2"]
