"""The poller and fire: how soon a panel's alarm is told, what dead neighbours cost it, and which panels it will not promise."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from iotcore.reading import Scalar
from iotcore.specs import load
from iotcore.specs.model import DeviceSpec, Firmware, ModbusLimits, ModbusWire, Point
from simulators.modbus_device import ModbusDevice, ModbusServer
from tests.support.core_stand_in import until
from tests.support.polling import Book, binding, directory_of, polling
from tests.support.raw_unit import Ask, RawUnit, Send
from tests.support.serial_line import SerialCable

POLL_S, TIMEOUT_S = 0.2, 0.3


def _holding(address: int, kind: str = "uint16", **more: Any) -> ModbusWire:
    return ModbusWire("holding", address, kind, **more)  # type: ignore[arg-type]


def _panel(**changes: Any) -> DeviceSpec:
    spec = DeviceSpec(
        model="panel", vendor="v", title="t", device_class="fire_panel", protocol="modbus", source="s", verified="v",
        interval_s=60.0, modbus=ModbusLimits(timeout_s=TIMEOUT_S),
        points={
            "fire": Point(kind="bool", modbus=_holding(0, bit=0), poll_s=POLL_S),
            "voltage": Point(modbus=_holding(900), lane="bulk", poll_s=1.0),
        },
    )  # fmt: skip
    return replace(spec, **changes)


PANEL = _panel()
QUIET: dict[str, Scalar | None] = {"fire": False, "voltage": 24.0}


def _fires(book: Book, device: str) -> list[float]:
    return [kept.at_s for kept in book.of(device) if kept.values.get("fire") is True]


async def test_a_fire_is_told_at_once_as_an_event_of_its_own() -> None:
    book = Book()
    device = ModbusDevice(PANEL, QUIET)
    async with (
        ModbusServer({1: device}) as server,
        polling(directory_of(binding("p", PANEL, server.connection())), book, interval_s=None),
    ):
        await until(lambda: len(book.of("p")) >= 2, "both groups")
        assert {kept.kind for kept in book.of("p")} == {"reading"}
        reads = device.reads
        await until(lambda: device.reads > reads + 5, "polls that change nothing")
        assert len(book.of("p")) == 2
        began_s = time.monotonic()
        device.set("fire", value=True)
        await until(lambda: _fires(book, "p"), "the fire")
    kept = book.of("p")[-1]
    assert (dict(kept.values), dict(kept.q), kept.kind) == ({"fire": True}, {}, "event")
    assert kept.at_s - began_s < POLL_S + 0.3
    assert abs(kept.ts - time.time() * 1000.0) < 20_000


async def test_behind_one_gateway_dead_units_delay_a_fire_by_one_request_and_the_living_keep_their_rate() -> None:
    book = Book()
    meter = replace(
        _panel(device_class="air_station"), points={"voltage": Point(modbus=_holding(900), poll_s=0.5)}, interval_s=0.5
    )
    units = {number: ModbusDevice(meter, {"voltage": float(number)}) for number in range(2, 8)}
    units[1] = ModbusDevice(PANEL, QUIET)
    for number in (4, 5, 6, 7):
        units[number].silent = True
    async with ModbusServer(units) as server:
        bindings = [binding("fire", PANEL, server.connection(1))]
        bindings += [binding(f"m{number}", meter, server.connection(number)) for number in range(2, 8)]
        async with polling(directory_of(*bindings), book, interval_s=None) as poller:
            await until(lambda: poller.silent == {"m4", "m5", "m6", "m7"}, "the dead are known")
            latencies = []
            before = {name: len(book.of(name)) for name in ("m2", "m3")}
            began_s = time.monotonic()
            for is_on in (True, False) * 5:
                count, set_s = len(book.of("fire")), time.monotonic()
                units[1].set("fire", is_on)
                await until(lambda count=count: len(book.of("fire")) > count, "the change")  # type: ignore[misc]
                latencies.append(book.of("fire")[-1].at_s - set_s)
                await asyncio.sleep(0.1)
            seconds = time.monotonic() - began_s
            polled = {name: len(book.of(name)) - before[name] for name in before}
    assert max(latencies) < POLL_S + TIMEOUT_S + 0.2
    assert min(polled.values()) >= 0.9 * seconds / 0.5 - 1
    for number in (4, 5, 6, 7):
        assert all(kept.q == {"voltage": "bad:timeout"} for kept in book.of(f"m{number}"))


async def test_a_line_that_comes_back_is_read_within_one_interval() -> None:
    book = Book()
    async with (
        ModbusServer({1: ModbusDevice(PANEL, QUIET)}) as server,
        polling(directory_of(binding("p", PANEL, server.connection())), book, interval_s=None),
    ):
        await until(lambda: len(book.of("p")) >= 2, "both groups")
        await server.stop()
        await until(lambda: book.of("p")[-1].q == {"voltage": "bad:refused"}, "trouble in the slow group, too")
        assert any(kept.q == {"fire": "bad:refused"} and kept.kind == "event" for kept in book.of("p"))
        await server.start()
        back_s, count = time.monotonic(), len(book.of("p"))
        await until(lambda: len(book.of("p")) >= count + 2, "both groups again")
        assert all(kept.q == {} for kept in book.of("p")[count:])
        assert book.of("p")[count + 1].at_s - back_s < POLL_S + 0.3


async def test_a_panel_that_cannot_be_seen_in_time_is_refused_with_the_arithmetic_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    book = Book()
    late = _panel(points={"fire": Point(kind="bool", modbus=_holding(0, bit=0), poll_s=9.9)}, interval_s=9.9)
    async with ModbusServer({1: ModbusDevice(PANEL, QUIET), 2: ModbusDevice(late, {"fire": False})}) as server:
        bindings = [binding("p", PANEL, server.connection(1)), binding("late", late, server.connection(2))]
        with caplog.at_level(logging.ERROR):
            async with polling(directory_of(*bindings), book, interval_s=None) as poller:
                await until(lambda: book.of("p") and book.of("late"), "both are told")
                assert set(poller.refused) == {"late"}
                assert poller.failing == {"late": "fire_budget"}
    assert dict(book.of("late")[0].q) == {"fire": "bad:fire_budget"}
    assert not book.of("p")[0].q
    assert "late: poll interval 9.9 s + longest request in flight" in caplog.text
    assert "more than the fire budget of 10 s" in caplog.text


async def test_a_unit_of_another_firmware_is_read_by_its_own_layout_and_an_unknown_one_not_at_all() -> None:
    book = Book()
    firmware = Firmware(base=("1",), modbus=_holding(300))
    spec = _panel(firmware=firmware, points={"fire": Point(kind="bool", modbus=_holding(0, bit=0), poll_s=POLL_S)})
    device = ModbusDevice(spec, {"fire": True})
    device.words["holding", 300] = 1
    async with (
        ModbusServer({1: device}) as server,
        polling(directory_of(binding("p", spec, server.connection())), book, interval_s=None),
    ):
        await until(lambda: book.of("p"), "a poll")
        assert (dict(book.of("p")[0].values), book.of("p")[0].fw) == ({"fire": True}, "1")
        await server.stop()
        device.words["holding", 300] = 2
        await until(lambda: book.of("p")[-1].q, "trouble")
        await server.start()
        await until(lambda: book.of("p")[-1].fw == "2", "another version")
    kept = book.of("p")[-1]
    assert (dict(kept.values), dict(kept.q)) == ({"fire": None}, {"fire": "bad:unknown_firmware"})


PANEL_YAML = b"""
model: big-panel
vendor: v
title: t
device_class: fire_panel
protocol: modbus
source: s
verified: v
interval_s: 60
modbus: {timeout_s: 1.0}
repeats:
  - over: {loop: [1, 10], detector: [1, 159]}
    stride: {loop: 400, detector: 1}
    points:
      "l{loop}_d{detector}":
        modbus: {table: holding, address: 0, type: uint16}
        poll_s: 2
"""


async def test_a_large_panel_is_narrowed_to_what_is_fitted_and_told_in_messages_that_fit() -> None:
    book = Book()
    spec = load.parse(PANEL_YAML, "big-panel.yaml")
    device = ModbusDevice(spec, {f"l{loop}_d{n}": float(1000 * loop + n) for loop in range(1, 11) for n in range(1, 160)})
    async with ModbusServer({1: device}) as server:
        small = binding("small", spec, server.connection() + "&loop=1-2&detector=1-20")
        big = binding("big", spec, server.connection())
        async with polling(directory_of(small, big), book, interval_s=None) as poller:
            await until(lambda: book.of("small") and len(book.of("big")) >= 7, "both panels")
            assert poller.refused == {}
    assert set(book.of("small")[0].values) == {f"l{loop}_d{n}" for loop in (1, 2) for n in range(1, 21)}
    assert max(len(kept.values) for kept in book.of("big")) == 250
    told: dict[str, Scalar | None] = {}
    for kept in book.of("big")[:7]:
        told |= kept.values
    assert len(told) == 1590
    assert (told["l1_d1"], told["l10_d159"]) == (1001.0, 10_159.0)


async def test_on_a_serial_cable_no_late_answer_is_ever_a_value() -> None:
    """The unit answers some questions only after the next one was asked: by then it must be nobody's answer."""
    spec = _panel(
        device_class="air_station", interval_s=0.15, modbus=ModbusLimits(timeout_s=0.1, baud=115_200, max_hole=0),
        points={f"p{n}": Point(modbus=_holding(100 * n), poll_s=0.15) for n in range(1, 5)},
    )  # fmt: skip

    async def answer(ask: Ask, send: Send) -> None:
        if ask.number % 7 == 3:
            await asyncio.sleep(0.2)
        await send(ask.rtu(ask.pdu(word=ask.address)))

    book = Book()
    async with SerialCable() as cable:
        unit = RawUnit(answer, "rtu")
        answering = asyncio.create_task(unit.on(cable.two))
        async with polling(directory_of(binding("s", spec, f"rtu://{cable.one}?device_id=9")), book, interval_s=None):
            await until(lambda: len(book.of("s")) >= 25, "polls")
        answering.cancel()
        await asyncio.wait([answering])
    told = [(point, value) for kept in book.of("s") for point, value in kept.values.items() if value is not None]
    assert len(told) > 20
    assert all(value == 100.0 * int(point[1:]) for point, value in told)
    assert any("bad:timeout" in kept.q.values() for kept in book.of("s"))


async def test_a_unit_whose_serial_settings_differ_from_its_lines_is_told_so() -> None:
    book = Book()
    async with SerialCable() as cable:
        bindings = [
            binding("a", PANEL, f"rtu://{cable.one}?device_id=1&baud=19200"),
            binding("b", PANEL, f"rtu://{cable.one}?device_id=2&baud=9600"),
        ]
        async with polling(directory_of(*bindings), book, interval_s=None) as poller:
            await until(lambda: book.of("b"), "it is told")
            assert "9600 baud 8N1 on rtu://" in poller.refused["b"]
    assert set(book.of("b")[0].q.values()) == {"bad:line_settings"}


class _Stalling(Book):
    """An outbox whose disk hangs on bulk readings."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = asyncio.Event()

    async def put(
        self,
        domain: str,
        device: str,
        values: Mapping[str, Scalar | None],
        q: Mapping[str, str] | None = None,
        ts: int | None = None,
        **more: Any,
    ) -> None:
        if "voltage" in values:
            await self.hangs.wait()
        await super().put(domain, device, values, q, ts, **more)


async def test_a_hanging_outbox_stops_no_poll_and_no_fire() -> None:
    book = _Stalling()
    device = ModbusDevice(PANEL, QUIET)
    async with (
        ModbusServer({1: device}) as server,
        polling(directory_of(binding("p", PANEL, server.connection())), book, interval_s=None),
    ):
        await until(lambda: book.of("p"), "fire points")
        reads = device.reads
        await until(lambda: device.reads > reads + 5, "polls go on")
        device.set("fire", value=True)
        await until(lambda: _fires(book, "p"), "the fire")
        assert not any("voltage" in kept.values for kept in book.of("p"))
        book.hangs.set()
        await until(lambda: any("voltage" in kept.values for kept in book.of("p")), "the rest")


async def test_a_fire_that_the_outbox_could_not_keep_is_told_again() -> None:
    book = Book()
    device = ModbusDevice(PANEL, QUIET)
    async with (
        ModbusServer({1: device}) as server,
        polling(directory_of(binding("p", PANEL, server.connection())), book, interval_s=None) as poller,
    ):
        await until(lambda: len(book.of("p")) >= 2, "both groups")
        book.full = True
        device.set("fire", value=True)
        await until(lambda: poller.counters.not_kept >= 2, "it is tried again")
        book.full = False
        await until(lambda: _fires(book, "p"), "the fire")


async def test_the_poller_ends_although_units_are_dead_silent_or_unreachable() -> None:
    book = Book()
    async with contextlib.AsyncExitStack() as stack:
        silent = ModbusDevice(PANEL, QUIET)
        silent.silent = True
        server = await stack.enter_async_context(ModbusServer({1: silent}))
        bindings = [binding("silent", PANEL, server.connection()), binding("refused", PANEL, "tcp://127.0.0.1:1")]
        async with polling(directory_of(*bindings), book, interval_s=None):
            await until(lambda: book.of("silent") and book.of("refused"), "both are told")
            ending_s = time.monotonic()
        assert time.monotonic() - ending_s < 1.0
