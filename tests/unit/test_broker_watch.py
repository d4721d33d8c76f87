"""What is told from Mosquitto's log, of 2.0 and of 2.1, line by line as these say it."""

from __future__ import annotations

import pytest

from iotcore.clock import ManualClock
from iotcore.provision import broker_watch
from iotcore.provision.broker_watch import BURST, BrokerWatch

STAMP = "2026-11-26T14:42:35: "
REFUSALS = [
    "OpenSSL Error[0]: error:0A000086:SSL routines::certificate verify failed",
    "OpenSSL Error[0]: error:0A0000C7:SSL routines::peer did not return a certificate",
    "OpenSSL Error while trying to get the error[0]: error:0A000086:SSL routines::certificate verify failed",
    "Client connection from 127.0.0.1 failed: error:0A00010B:SSL routines::wrong version number.",
    "Client st-1 disconnected, not authorised.",
    "Client st-1 [10.0.0.1:5] disconnected: not authorised.",
    "Client st-1 [10.0.0.1:5] disconnected: bad username or password.",
]
HARMLESS = [
    "OpenSSL Error[0]: error:0A000126:SSL routines::unexpected eof while reading",
    "OpenSSL Error[1]: error:0A000086:SSL routines::certificate verify failed",  # the same failure's second line
    "Client d1 disconnected.",
    "Client <unknown> disconnected: Protocol error.",
    "mosquitto version 2.0.11 running",
]


class Bench:
    def __init__(self, release: str = "2.0") -> None:
        self.clock = ManualClock(now_ms=1_800_000_000_000.0)
        self.said: list[str] = []
        self.watch = BrokerWatch(self.clock, self.said.append)
        self.release = release
        self.where: dict[str, str] = {}

    def comes(self, name: str, address: str) -> None:
        """It connects; a session that it has is taken over."""
        self.line(f"New connection from {address}:40000 on port 8883.")
        if name in self.where:
            old = (
                "already connected, closing old connection"
                if self.release == "2.0"
                else "[10.9.9.9:1] disconnected: session taken over"
            )
            self.line(f"Client {name} {old}.")
        self.where[name] = address
        self.line(f"New client connected from {address}:40000 as {name} (p5, c1, k60, u'{name}').")

    def goes(self, name: str) -> None:
        del self.where[name]
        self.line(f"Client {name} disconnected.")

    def line(self, text: str) -> None:
        self.watch.hear(STAMP + text)


@pytest.fixture(params=["2.0", "2.1"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


def test_two_that_hold_one_key_throw_each_other_out_and_are_told_once_with_both_addresses(bench: Bench) -> None:
    for _ in range(5):
        for address in ("10.0.0.5", "203.0.113.9"):
            bench.comes("d1", address)
            bench.clock.advance(5.0)
    (clone,) = bench.watch.seen().clones
    assert (clone.name, clone.addresses) == ("d1", ("10.0.0.5", "203.0.113.9"))
    assert clone.takeovers == 9
    assert len(bench.said) == 1
    assert "d1 connects from 10.0.0.5 and 203.0.113.9 by turns" in bench.said[0]
    bench.clock.advance(3_601.0)
    assert bench.watch.seen().clones == ()


def test_a_device_that_wanders_through_a_network_is_no_clone(bench: Bench) -> None:
    for number in range(20):
        bench.comes("d1", f"10.0.0.{number}")
        bench.clock.advance(5.0)
    assert bench.watch.seen().clones == ()


def test_a_device_that_loses_its_connection_again_and_again_at_one_address_is_no_clone(bench: Bench) -> None:
    for _ in range(20):
        bench.comes("d1", "10.0.0.5")
    assert bench.watch.seen().clones == ()


def test_one_that_says_goodbye_before_it_connects_elsewhere_is_no_clone(bench: Bench) -> None:
    for _ in range(10):
        for address in ("10.0.0.5", "203.0.113.9"):
            bench.comes("d1", address)
            bench.goes("d1")
    assert bench.watch.seen().clones == ()


def test_what_takes_a_day_is_no_clone(bench: Bench) -> None:
    for _ in range(10):
        for address in ("10.0.0.5", "203.0.113.9"):
            bench.comes("d1", address)
            bench.clock.advance(broker_watch.WINDOW_S)
    assert bench.watch.seen().clones == ()


@pytest.mark.parametrize("line", REFUSALS)
def test_a_burst_of_refusals_is_told_once_with_who_was_never_let_in(line: str) -> None:
    bench = Bench()
    for number in range(2 * BURST):
        bench.comes(f"d{number}", "10.0.0.5")  # a whole site that comes back
        bench.line("New connection from 203.0.113.9:1 on port 8883.")
        bench.line(line)
    seen = bench.watch.seen()
    assert seen.refused == 2 * BURST
    assert seen.burst is not None
    assert seen.burst.addresses == ("203.0.113.9",)
    assert len(bench.said) == 1
    bench.clock.advance(3_601.0)
    assert bench.watch.seen().burst is None


def test_refusals_now_and_then_are_no_burst() -> None:
    bench = Bench()
    for _ in range(10 * BURST):
        bench.line(REFUSALS[0])
        bench.clock.advance(2.1)
    assert bench.watch.seen().burst is None
    assert bench.said == []


@pytest.mark.parametrize("line", HARMLESS)
def test_what_is_no_refusal_does_not_count(line: str) -> None:
    bench = Bench()
    for _ in range(10 * BURST):
        bench.line(line)
    assert bench.watch.seen() == broker_watch.Seen()


def test_a_queue_that_overflows_is_told_with_its_name() -> None:
    bench = Bench()
    for _ in range(3):
        bench.line("Outgoing messages are being dropped for client svc.telemetry.1.field.")
    assert bench.watch.seen().overflows == ("svc.telemetry.1.field",)
    assert bench.said == ["messages for svc.telemetry.1.field are dropped: its queue is full; is it there?"]


def test_its_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("MAX_NAMES", "MAX_CLONES", "MAX_OVERFLOWS", "MAX_ADDRESSES"):
        monkeypatch.setattr(broker_watch, limit, 10)
    bench = Bench()
    for number in range(200):
        for address in ("10.0.0.5", f"203.0.113.{number}") * 3:
            bench.comes(f"d{number}", address)
        bench.line(f"Client e{number} already connected, closing old connection.")
        bench.line(f"Outgoing messages are being dropped for client d{number}.")
    tables = [value for name, value in vars(bench.watch).items() if hasattr(value, "__len__")]
    assert len(tables) == 7
    assert all(len(table) <= max(10, BURST) for table in tables)
    assert [clone.name for clone in bench.watch.seen().clones] == [f"d{number}" for number in range(190, 200)]
