"""Simulated devices that enrol by themselves: by a token on their own page, or out of their box with serial and secret."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from iotcore.clock import ManualClock, SystemClock
from iotcore.errors import EnrolmentError
from iotcore.provision.ca import Anchor
from iotcore.registry.claims import UnitEntry
from iotcore.registry.tokens import hash_of
from simulators.enrol import claim
from simulators.local_page import LocalPage, Platform
from tests.support.enrolling import BY, Book, book, device, listening
from tests.support.pki import authority, run, trust_file

DAY_S = 86_400.0
TOKEN = "the technician's token"


@dataclass
class Bench:
    """A platform, and a device's page."""

    book: Book
    page: LocalPage
    platform: Platform
    folder: Path

    async def browser(self, path: str = "", *more: str) -> tuple[int, str]:
        """What a phone gets: status, page."""
        out = ("-w", "\n%{http_code}")
        code, body, said = await run("curl", "-sS", *out, *more, f"http://127.0.0.1:{self.page.port}/{path}")
        assert code == 0, said
        text, _, status = body.decode().rpartition("\n")
        return int(status), text

    async def enters(self, token: str, *more: str) -> tuple[int, str]:
        """A technician enters a token: status, and what the page says."""
        status, text = await self.browser("token", "--data-urlencode", f"token={token}", *more)
        found = re.search(r'<p id="state">(.*?)</p>', text, re.DOTALL)
        assert found is not None, text
        return status, found[1]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    ours, clock = authority(tmp_path), ManualClock(now_ms=SystemClock().wall_ms())
    devices = [device("sd-1", "smoke-heat"), device("sd-2", "smoke-heat")]
    async with book(tmp_path, devices, clock, poll_s=1.0) as kept, listening(kept, ours, tmp_path, clock) as est:
        platform = Platform(f"https://localhost:{est.port}", trust_file(ours, tmp_path))
        async with LocalPage("sd-1", platform, tmp_path / "device") as page:
            yield Bench(kept, page, platform, tmp_path)


async def test_a_token_entered_on_a_device_s_page_enrols_it(bench: Bench) -> None:
    await bench.book.give(TOKEN, "sd-1")
    status, text = await bench.browser()
    assert status == 200
    assert "no certificate yet" in text
    assert 'name="viewport"' in text
    status, said = await bench.enters("mistyped")
    assert status == 422
    assert "http_401: token: unknown, used, expired" in said
    status, said = await bench.enters(TOKEN)
    assert status == 200
    assert "enrolled" in said
    assert bench.page.identity is not None
    certificate = x509.load_pem_x509_certificate(bench.page.identity.cert_file.read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=sd-1"
    status, text = await bench.browser()
    assert "<form" not in text
    assert (await bench.enters(TOKEN))[0] == 409
    assert [issued.cn for issued in await bench.book.recorded()] == ["sd-1"]
    everything = b"".join(path.read_bytes() for path in (bench.folder / "device").iterdir())
    assert TOKEN.encode() not in everything


async def test_another_site_s_form_is_refused_and_spends_nothing(bench: Bench) -> None:
    await bench.book.give(TOKEN, "sd-1")
    assert (await bench.enters(TOKEN, "-H", "Origin: https://evil.example"))[0] == 403
    assert (await bench.enters(TOKEN, "-H", f"Origin: http://127.0.0.1:{bench.page.port}"))[0] == 200


async def test_the_page_says_that_a_person_has_to_approve(bench: Bench) -> None:
    token = await bench.book.enrolments.create_token("sd-1", DAY_S, BY, approval=True)
    status, said = await bench.enters(token)
    assert status == 202
    assert "a person has to approve it" in said
    (waiting,) = await bench.book.enrolments.requests()
    await bench.book.enrolments.decide(waiting.id, "an", approve=True)
    assert (await bench.enters(token))[0] == 200


async def test_a_unit_out_of_its_box_waits_until_it_is_bound(bench: Bench) -> None:
    await bench.book.enrolments.tell("lot", [UnitEntry("smoke-heat", "SN1", hash_of("from the factory"))], DAY_S, "maker")
    asking = (bench.platform.url, "SN1", "from the factory", bench.platform.ca_file, bench.folder / "unit")
    with pytest.raises(EnrolmentError, match="stands nowhere yet"):
        await claim(*asking)
    waiting = asyncio.ensure_future(claim(*asking, limit_s=20.0))
    await asyncio.sleep(0.2)
    await bench.book.enrolments.bind("SN1", "sd-2", "technician")
    name, identity = await waiting
    assert name == "sd-2"
    certificate = x509.load_pem_x509_certificate(identity.cert_file.read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=sd-2"
    assert [(issued.cn, issued.anchor) for issued in await bench.book.recorded()] == [("sd-2", Anchor.FIRE.value)]
