"""A gateway's certificate over its life: got, renewed, never lost, whatever fails. Real authority, a clock that tests move."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509

from iotcore.clock import ManualClock
from iotcore.errors import EnrolmentError
from iotcore.provision.ca import Anchor, Authority, IssuedCertificate
from iotcore.provision.est_client import EstServer
from iotcore.provision.gateway import TRIES, AtHand, OverEst, Upkeep
from iotcore.provision.identity import Identity, NewKey, load, new_key, store
from tests.support.pki import authority
from tests.support.until import until

DAY_S = 86_400.0
GW = "gw-7"


@dataclass
class Failing:
    """A source that fails as often as it is told to, and is asked how often it was asked."""

    real: AtHand
    failures: int = 0
    asked: int = 0
    why: str = "unreachable"
    keys: list[bytes] = field(default_factory=list)

    async def first(self, key: NewKey) -> x509.Certificate:
        self.asked += 1
        self.keys.append(key.pem)
        if self.failures:
            self.failures -= 1
            raise EnrolmentError(self.why, "the link is down")
        return await self.real.first(key)

    async def renewed(self, key: NewKey, current: Identity) -> x509.Certificate:
        del current
        return await self.first(key)

    async def confirmed(self, current: Identity) -> None:
        await self.real.confirmed(current)


@dataclass
class Bench:
    """One identity of a gateway, and a broker that takes or refuses."""

    folder: Path
    clock: ManualClock
    authority: Authority
    recorded: list[IssuedCertificate] = field(default_factory=list)
    tried: list[Path] = field(default_factory=list)
    refuses: str = ""
    confirmed: list[str] = field(default_factory=list)
    deaf: bool = False
    source: Failing = field(init=False)

    def __post_init__(self) -> None:
        self.source = Failing(AtHand(lambda: self.authority, Anchor.FIRE, GW, self._record, self._confirm))

    def upkeep(self) -> Upkeep:
        return Upkeep(self.folder, GW, Anchor.FIRE, self.source, self.clock, ours=self._ours)

    def _ours(self, certificate: x509.Certificate) -> bool:
        return self.authority.anchor_of(certificate) is Anchor.FIRE

    async def switch(self, file: Path) -> str:
        assert load(file, GW) is not None, "what is tried is whole"
        self.tried.append(file)
        return self.refuses

    def serial(self) -> int:
        found = load(self.folder / f"{GW}-fire.pem", GW)
        assert found is not None
        return found.certificate.serial_number

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    async def _confirm(self, serial: str) -> None:
        if self.deaf:
            raise EnrolmentError("unreachable", "the link is down")
        self.confirmed.append(serial)

    async def _record(self, issued: IssuedCertificate) -> None:
        self.recorded.append(issued)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    clock = ManualClock()
    return Bench(tmp_path / "certs", clock, authority(tmp_path, clock))


async def test_the_first_certificate_is_got_once_recorded_and_found_again(bench: Bench) -> None:
    file = await bench.upkeep().first()
    assert file == bench.folder / "gw-7-fire.pem"
    assert file.stat().st_mode & 0o777 == 0o600
    again = bench.upkeep()
    assert await again.first() == file
    assert (len(bench.recorded), bench.source.asked) == (1, 1)
    assert 89.9 < again.days_left() <= 90.0


@pytest.mark.parametrize(("why", "same"), [("pending", True), ("unreachable", True), ("http_401", False), ("http_403", False)])
async def test_while_the_answer_is_out_the_same_key_asks_again_also_after_a_restart(
    bench: Bench, why: str, *, same: bool
) -> None:
    bench.source.failures, bench.source.why = 1, why
    waiting = asyncio.create_task(bench.upkeep().first())
    await until(lambda: bench.source.asked == 1)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    await bench.upkeep().first()
    first, second = bench.source.keys
    assert (first == second) is same
    assert bench.names() == {"gw-7-fire.pem"}


async def test_it_renews_between_half_life_and_six_tenths_and_not_before(bench: Bench) -> None:
    upkeep = bench.upkeep()
    await upkeep.first()
    first = bench.serial()
    for days, due in ((44.9, False), (9.2, True)):
        bench.clock.advance(days * DAY_S)
        running = asyncio.create_task(upkeep.run(bench.switch))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5.0 if due else 0.2):
                while not bench.tried:  # noqa: ASYNC110 - another task's doing
                    await asyncio.sleep(0.01)
                while bench.serial() == first:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
        assert bool(bench.tried) is due
    assert bench.serial() != first
    assert bench.names() == {"gw-7-fire.pem"}
    assert [one.cn for one in bench.recorded] == [GW, GW]


def test_gateways_enrolled_together_do_not_renew_together(bench: Bench, tmp_path: Path) -> None:
    due = []
    for number in range(20):
        key = new_key(GW)
        issued = bench.authority.issue_device(Anchor.FIRE, key.public, GW)
        due.append(store(tmp_path / f"{number}.pem", key, x509.load_pem_x509_certificate(issued.pem)).renew_ms)
    assert max(due) - min(due) > 2 * DAY_S * 1000.0


async def test_a_certificate_that_the_broker_refuses_leaves_the_old_one_and_is_replaced_after_some_tries(bench: Bench) -> None:
    upkeep = bench.upkeep()
    await upkeep.first()
    first = bench.serial()
    bench.clock.advance(50.0 * DAY_S)
    bench.refuses = "not authorised"
    for _ in range(TRIES):
        with pytest.raises(EnrolmentError, match="the fire broker does not take the new certificate: not authorised"):
            await upkeep.renew(bench.switch)
        assert bench.serial() == first
    assert len(bench.recorded) == 2, "the same new one is tried again"
    assert bench.names() == {"gw-7-fire.pem"}, "and then another is asked for"
    bench.refuses = ""
    await upkeep.renew(bench.switch)
    assert bench.serial() != first
    assert len(bench.recorded) == 3


async def test_a_cut_after_the_new_one_was_issued_takes_it_up_again(bench: Bench) -> None:
    upkeep = bench.upkeep()
    await upkeep.first()
    bench.clock.advance(60.0 * DAY_S)
    bench.refuses = "no connection"
    with pytest.raises(EnrolmentError):
        await upkeep.renew(bench.switch)
    assert bench.names() == {"gw-7-fire.pem", "gw-7-fire.next.pem"}
    bench.refuses = ""
    again = bench.upkeep()
    await again.first()
    await again.renew(bench.switch)
    assert len(bench.recorded) == 2
    assert bench.names() == {"gw-7-fire.pem"}


async def test_an_expired_one_beside_a_new_one_gives_way_at_the_start(bench: Bench) -> None:
    upkeep = bench.upkeep()
    await upkeep.first()
    bench.clock.advance(60.0 * DAY_S)
    bench.refuses = "no connection"
    with pytest.raises(EnrolmentError):
        await upkeep.renew(bench.switch)
    bench.clock.advance(40.0 * DAY_S)
    again = bench.upkeep()
    await again.first()
    assert (len(bench.recorded), bench.names()) == (2, {"gw-7-fire.pem"})
    assert 49.0 < again.days_left() < 51.0


async def test_of_another_authority_or_half_written_counts_as_none(bench: Bench, tmp_path: Path) -> None:
    key = new_key(GW)
    stranger = authority(tmp_path / "stranger", bench.clock).issue_device(Anchor.FIRE, key.public, GW)
    store(bench.folder / "gw-7-fire.pem", key, x509.load_pem_x509_certificate(stranger.pem))
    await bench.upkeep().first()
    assert len(bench.recorded) == 1
    (bench.folder / "gw-7-fire.pem").write_bytes(key.pem)
    await bench.upkeep().first()
    assert len(bench.recorded) == 2


async def test_a_link_that_is_down_at_the_first_start_is_said_and_tried_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.source.failures = 1
    upkeep = bench.upkeep()
    starting = asyncio.create_task(upkeep.first())
    async with asyncio.timeout(10.0):
        while not upkeep.last_error:  # noqa: ASYNC110 - another task's doing
            await asyncio.sleep(0.01)
        assert "the link is down" in upkeep.last_error
        await starting
    assert upkeep.last_error == ""
    assert "gw-7-fire.pem: no certificate yet: unreachable: the link is down" in caplog.text


async def test_without_a_token_it_says_which_setting_is_missing(bench: Bench) -> None:
    source = OverEst(EstServer("https://localhost:1", bench.folder / "none.pem"), Anchor.FIELD, GW, "")
    with pytest.raises(EnrolmentError, match=r"set gateway\.field_token"):
        await source.first(new_key(GW))


async def test_what_a_broker_has_let_in_is_told_once_and_again_until_it_is_heard(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("iotcore.provision.gateway.CONFIRM_RETRY_S", 0.05)
    monkeypatch.setattr("iotcore.provision.gateway.CONFIRM_LOOK_S", 0.01)
    upkeep, connected = bench.upkeep(), False
    await upkeep.first()
    telling = asyncio.create_task(upkeep.tell(lambda: connected))
    await asyncio.sleep(0.1)
    assert bench.confirmed == [], "no broker has let it in yet"
    bench.deaf = connected = True
    await until(lambda: "not revoked yet: unreachable" in caplog.text)
    await asyncio.sleep(0.2)
    assert caplog.text.count("not revoked yet") == 1, "said once"
    bench.deaf = False
    first = f"{bench.serial():x}"
    await until(lambda: bench.confirmed == [first])
    bench.clock.advance(60.0 * DAY_S)
    bench.refuses = "not authorised"
    with pytest.raises(EnrolmentError):
        await upkeep.renew(bench.switch)
    await asyncio.sleep(0.1)
    assert bench.confirmed == [first], "one that the broker refused is not told"
    bench.refuses = ""
    await upkeep.renew(bench.switch)
    await until(lambda: bench.confirmed == [first, f"{bench.serial():x}"])
    telling.cancel()
    await asyncio.wait([telling])
