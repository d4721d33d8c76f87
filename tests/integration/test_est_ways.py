"""Every way in over the real listener and a real registry, with clients that are not ours: curl, strongSwan."""

from __future__ import annotations

import asyncio
import base64
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7

from iotcore.clock import ManualClock, SystemClock
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.refusals import AUDITED, OVERALL, PER_ADDRESS, Refusals
from iotcore.registry.admissions import BATCH, QUEUE, Refusal
from iotcore.registry.asked import BUSY_S
from iotcore.registry.claims import UnitEntry
from iotcore.registry.tokens import hash_of
from iotcore.web.est import EstListener
from tests.support.enrolling import BY, Book, book, device, listening
from tests.support.pki import authority, device_files, run, trust_file
from tests.support.requests import p256, request

DAY_S = 86_400.0
POLL_S = 1.0  # soon enough for a test
TYPE = ("-H", "Content-Type: application/pkcs10")


@dataclass
class Est:
    """A listener with a gateway, its child, and detectors; curl and strongSwan go to it."""

    listener: EstListener
    authority: Authority
    book: Book
    clock: ManualClock
    folder: Path
    trust: Path

    def url(self, path: str = "") -> str:
        return f"https://localhost:{self.listener.port}/{path}"

    async def curl(
        self, csr: bytes, user: str = "", *, cert: tuple[Path, Path] | None = None, label: str = ""
    ) -> tuple[int, str, bytes]:
        """POST a request: status, headers, body."""
        headers = self.folder / f"headers-{hash_of(user + str(csr))[:12]}"
        who = ("-u", user) if user else ()
        files = ("--cert", cert[0], "--key", cert[1]) if cert else ()
        code, out, said = await run(
            *("curl", "-sS", "--cacert", self.trust, *who, *files, *TYPE, "--data-binary", "@-", "-D", headers),
            self.url(f".well-known/est{label}/simpleenroll"),
            stdin=base64.b64encode(csr),
        )
        assert code == 0, said
        head = headers.read_text()
        return int(head.split()[1]), head, out

    async def strongswan(self, name: str, user: str, *more: str) -> tuple[int, bytes, str]:
        """`pki --est` with a fresh key."""
        csr, roots = self.folder / "d.csr", []
        _, pem, _ = await run("pki", "--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem")
        (self.folder / "d.key").write_bytes(pem)
        _, der, _ = await run("pki", "--req", "--type", "priv", "--in", self.folder / "d.key", "--dn", f"CN={name}")
        csr.write_bytes(der)
        out = ("--caout", self.folder / "ca.pem", "--outform", "pem")
        await run("pki", "--estca", "--url", self.url(), "--cacert", self.trust, *out)
        for path in sorted(self.folder.glob("ca*.pem")):
            roots += ["--cacert", str(path)]
        command = ("pki", "--est", "--url", self.url(), *roots, "--in", str(csr), "--userpass", user, "--outform", "pem")
        return await run(*command, *more)


@pytest.fixture
async def est(tmp_path: Path) -> AsyncIterator[Est]:
    ours, clock = authority(tmp_path), ManualClock(now_ms=SystemClock().wall_ms())
    devices = [
        *(device(f"smoke-{n}", "smoke-heat") for n in (1, 2)),
        device("gw-1", "gateway"),
        device("child-1", "smoke-heat", parent="gw-1"),
    ]
    async with book(tmp_path, devices, clock, poll_s=POLL_S) as kept, listening(kept, ours, tmp_path, clock) as listener:
        yield Est(listener, ours, kept, clock, tmp_path, trust_file(ours, tmp_path))


def issued_of(body: bytes) -> x509.Certificate:
    (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))
    return certificate


def name_in(body: bytes) -> str:
    return issued_of(body).subject.rfc4514_string()


def retry_after(head: str) -> int:
    found = re.search(r"(?im)^retry-after: (\d+)", head)
    assert found is not None, head
    return int(found[1])


async def test_csrattrs_say_what_the_policy_wants(est: Est) -> None:
    code, out, said = await run("curl", "-sS", "-i", "--cacert", est.trust, est.url(".well-known/est/csrattrs"))
    assert code == 0, said
    head, _, body = out.decode().partition("\r\n\r\n")
    assert "Content-Type: application/csrattrs" in head
    assert "Content-Transfer-Encoding: base64" in head
    code, parsed, said = await run("openssl", "asn1parse", "-inform", "DER", stdin=base64.b64decode(body))
    assert code == 0, said
    found = re.findall(r"d=(\d).*(?:OBJECT +:(\S+)|cons: (SEQUENCE|SET))", parsed.decode())
    assert [(depth, name or kind) for depth, name, kind in found] == [
        ("0", "SEQUENCE"),
        ("1", "SEQUENCE"),
        ("2", "id-ecPublicKey"),
        ("2", "SET"),
        ("3", "prime256v1"),
        ("1", "ecdsa-with-SHA256"),
    ]


async def test_a_unit_enrols_with_its_serial_and_secret_once_it_was_bound(est: Est) -> None:
    await est.book.enrolments.tell("lot", [UnitEntry("smoke-heat", "SN1", hash_of("from the factory"))], DAY_S, "maker")
    csr = request("SN1")
    status, head, body = await est.curl(csr, "SN1:from the factory")
    assert (status, retry_after(head)) == (202, POLL_S)
    assert body.startswith(b"unbound: ")
    await est.book.enrolments.bind("SN1", "smoke-1", "technician")
    status, _, body = await est.curl(csr, "SN1:from the factory")
    assert (status, name_in(body)) == (200, "CN=smoke-1")
    names = issued_of(body).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:dev:iotcore:smoke-1"]
    assert (await est.curl(request("SN1"), "SN1:from the factory"))[0] == 401
    assert (await est.curl(request("SN1"), "SN1:a guess"))[0] == 401
    assert (await est.curl(request("smoke-2"), "SN1:from the factory"))[2].startswith(b"wrong_name: ")


async def test_strongswan_enrols_a_unit_with_the_token_of_its_batch(est: Est) -> None:
    await est.book.enrolments.tell("lot", [UnitEntry("smoke-heat", "SN1", "")], DAY_S, "maker")
    await est.book.enrolments.bind("SN1", "smoke-1", "technician")
    token = await est.book.enrolments.create_batch_token("lot", 1, DAY_S, BY)
    code, pem, said = await est.strongswan("SN1", f"SN1:{token}")
    assert code == 0, said
    assert x509.load_pem_x509_certificate(pem).subject.rfc4514_string() == "CN=smoke-1"


async def test_strongswan_waits_for_a_person_and_gets_its_certificate(est: Est) -> None:
    token = await est.book.enrolments.create_token("smoke-1", DAY_S, BY, approval=True)
    waiting = asyncio.ensure_future(est.strongswan("smoke-1", f"smoke-1:{token}", "--interval", "1", "--maxpolltime", "20"))
    for _ in range(300):
        if found := await est.book.enrolments.requests():
            break
        await asyncio.sleep(0.05)
    assert not waiting.done()
    await est.book.enrolments.decide(found[0].id, "an", approve=True)
    code, pem, said = await waiting
    assert code == 0, said
    certificate = x509.load_pem_x509_certificate(pem)
    assert certificate.subject.rfc4514_string() == "CN=smoke-1"
    assert [one.state for one in await est.book.enrolments.requests()] == ["issued"]


async def test_the_same_key_polls_and_another_key_is_another_request(est: Est) -> None:
    token = await est.book.enrolments.create_token("smoke-1", DAY_S, BY, approval=True)
    mine, other = request("smoke-1", key=(key := p256())), request("smoke-1")
    for csr in (mine, request("smoke-1", key=key), other):
        status, head, body = await est.curl(csr, f"smoke-1:{token}")
        assert (status, retry_after(head), body) == (202, POLL_S, b"pending: a person has to approve it\n")
    first, second = await est.book.enrolments.requests()
    await est.book.enrolments.decide(first.id, "an", approve=True)
    await est.book.enrolments.decide(second.id, "an", approve=False, reason="not on my list")
    status, _, body = await est.curl(other, f"smoke-1:{token}")
    assert (status, body) == (403, b"rejected: not on my list\n")
    status, _, body = await est.curl(mine, f"smoke-1:{token}")
    assert (status, issued_of(body).public_key()) == (200, key.public_key())
    assert (await est.book.refused())[0][2] == "rejected: not on my list"


async def test_a_gateway_enrols_its_child_and_nobody_else(est: Est) -> None:
    gateway = device_files(est.authority, est.folder / "gw", Anchor.FIELD, "gw-1")
    status, _, body = await est.curl(request("child-1"), cert=gateway[:2])
    assert (status, name_in(body)) == (200, "CN=child-1")
    assert est.authority.anchor_of(issued_of(body)) is Anchor.FIRE
    status, _, body = await est.curl(request("smoke-1"), cert=gateway[:2])
    assert (status, body) == (403, b"not_a_child: smoke-1 is not registered as a child of gw-1\n")
    for label in ("", "/fire"):  # not for itself: that would be a way to the other anchor without a token
        status, _, body = await est.curl(request("gw-1"), cert=gateway[:2], label=label)
        assert (status, body.partition(b":")[0]) == (403, b"certificate")
    detector = device_files(est.authority, est.folder / "d", Anchor.FIRE, "smoke-2")
    assert (await est.curl(request("child-1"), cert=detector[:2]))[0] == 403
    assert (await est.curl(request("child/1"), cert=gateway[:2]))[2].startswith(b"bad_name: ")
    deeds = [entry.deed for entry in await est.book.registry.audit_entries()]
    assert [deed.by for deed in deeds if deed.action == "certificate.issue"] == ["gw-1"]
    est.authority.revoke(Anchor.FIELD, gateway[2].serial)
    assert (await est.curl(request("child-1"), cert=gateway[:2]))[2] == b"certificate: it is revoked\n"


async def test_a_key_of_another_device_is_refused_and_ones_own_may_stay(est: Est) -> None:
    for token, name in (("t1", "smoke-1"), ("t2", "smoke-2"), ("t3", "smoke-1")):
        await est.book.give(token, name)
    key = p256()
    status, _, body = await est.curl(request("smoke-1", key=key), "smoke-1:t1")
    assert status == 200
    status, _, body = await est.curl(request("smoke-2", key=key), "smoke-2:t2")
    assert (status, body.partition(b":")[0]) == (403, b"key_elsewhere")
    assert set(await est.book.open_tokens()) == {"smoke-1", "smoke-2"}
    assert (await est.curl(request("smoke-1", key=key), "smoke-1:t3"))[0] == 200
    assert [told.partition(":")[0] for _, _, told in await est.book.refused()] == ["key_elsewhere"]


async def test_a_registry_that_cannot_write_is_503_said_once_and_spends_nothing(
    est: Est, caplog: pytest.LogCaptureFixture
) -> None:
    await est.book.give("t1", "smoke-1")
    with closing(sqlite3.connect(est.folder / "registry.db")) as locked:
        locked.execute("CREATE TRIGGER full BEFORE INSERT ON certificate BEGIN SELECT RAISE(ABORT, 'no room'); END")
        locked.commit()
        for _ in range(2):
            status, head, body = await est.curl(request("smoke-1"), "smoke-1:t1")
            assert (status, retry_after(head)) == (503, 10)
            assert b"nothing was used up" in body
        assert [record.levelname for record in caplog.records if "nobody can enrol" in record.message] == ["ERROR"]
        assert await est.book.open_tokens() == ["smoke-1"]
        locked.execute("DROP TRIGGER full")
        locked.commit()
    assert (await est.curl(request("smoke-1"), "smoke-1:t1"))[0] == 200


async def test_when_too_many_wait_one_more_is_told_to_come_again(est: Est) -> None:
    await est.book.give("t1", "smoke-1")
    refusal = Refusal("enrolment_refused", "somebody", "no_such_thing", "192.0.2.1")
    async with est.book.registry.database.writing() as work:  # nobody else can write now
        waiting = [asyncio.ensure_future(est.book.admissions.refuse(refusal)) for _ in range(QUEUE + BATCH)]
        await asyncio.sleep(0.1)
        filling = [asyncio.ensure_future(est.book.admissions.refuse(refusal)) for _ in range(BATCH)]
        await asyncio.sleep(0)
        status, head, body = await est.curl(request("smoke-1"), "smoke-1:t1")
        work.note(BY, "test", "queue")
    assert (status, retry_after(head), body) == (503, BUSY_S, b"busy: too many requests at once; ask again\n")
    await asyncio.gather(*waiting, *filling, return_exceptions=True)
    assert (await est.curl(request("smoke-1"), "smoke-1:t1"))[0] == 200


def test_an_address_waits_and_the_others_do_not() -> None:
    clock = ManualClock()
    refusals = Refusals(clock)
    assert [refusals.note("192.0.2.1") for _ in range(PER_ADDRESS)] == ["each"] * PER_ADDRESS
    assert refusals.must_wait("192.0.2.1") == 60.0
    assert refusals.must_wait("::ffff:192.0.2.1") == 60.0
    assert refusals.must_wait("192.0.2.2") == 0.0
    assert (refusals.bursting(), refusals.limited) == (True, 2)
    clock.advance(59.0)
    assert refusals.must_wait("192.0.2.1") == 1.0
    clock.advance(1.0)
    assert (refusals.must_wait("192.0.2.1"), refusals.bursting(), refusals.lately) == (0.0, False, 0)


def test_a_subscriber_with_a_whole_network_counts_as_one() -> None:
    refusals = Refusals(ManualClock())
    for number in range(PER_ADDRESS):
        refusals.note(f"2001:db8:0:7::{number:x}")
    assert refusals.must_wait("2001:db8:0:7:ffff::1") > 0.0
    assert refusals.must_wait("2001:db8:0:8::1") == 0.0


def test_many_addresses_together_have_a_limit_and_the_audit_is_not_flooded() -> None:
    refusals = Refusals(ManualClock())
    said = [refusals.note(f"192.0.{number // 200}.{number % 200}") for number in range(2 * OVERALL)]
    assert (said.count("each"), said.count("burst"), said[AUDITED]) == (AUDITED, 1, "burst")
    assert refusals.must_wait("192.0.0.1") > 0.0  # one try in a window, and it had it
    assert refusals.must_wait("198.51.100.1") == 0.0  # a technician somewhere else goes on
