"""The Modbus poller against real Modbus/TCP servers, good and bad ones."""

from __future__ import annotations

import asyncio
import contextlib
import math
import struct
import time

import pytest

from drivers.modbus.poller import Poller
from iotcore.reading import Scalar
from iotcore.specs.model import DeviceSpec, ModbusWire, Point
from simulators.modbus_device import ModbusDevice, ModbusServer
from tests.support.core_stand_in import until
from tests.support.polling import CLOCK, Book, all_bad, binding, directory_of, polling, quick
from tests.support.raw_unit import Ask, RawUnit, Send
from tests.support.shipped import SPECS

AIR = SPECS["vaisala-aqt530"]
WATER = SPECS["endress-liquiline-cm44x"]
CLEAN_AIR: dict[str, Scalar | None] = {
    "no2": 21.0, "so2": 3.0, "co": 412.0, "h2s": -1.0, "o3": 38.0, "no": 4.0, "pm25": 23.1, "pm10": 41.5,
    "temperature": 27.4, "humidity": 81.2, "pressure": 1008.6,
}  # fmt: skip


async def test_every_point_of_an_air_station_comes_with_its_value() -> None:
    book = Book()
    device = ModbusDevice(AIR, CLEAN_AIR)
    async with ModbusServer({1: device}) as server, polling(directory_of(binding("aqt-1", AIR, server.connection())), book):
        await until(lambda: len(book.of("aqt-1")) >= 2, "two polls")
    kept = book.of("aqt-1")[0]
    assert (kept.domain, dict(kept.values), dict(kept.q)) == ("air", CLEAN_AIR, {})
    assert abs(kept.ts - time.time() * 1000.0) < 20_000
    assert 0 <= device.reads - len(book.of("aqt-1")) <= 1  # one block, one request; one may have been on its way
    assert device.writes_refused == 0


async def test_a_water_units_own_verdict_and_nan_become_qualities() -> None:
    book = Book()
    device = ModbusDevice(WATER, {"ph": 7.5, "dissolved_oxygen": 6.25, "conductivity": 0.5, "temperature": 28.5})
    device.set("dissolved_oxygen", 6.25, "uncertain:unit_says_uncertain")
    device.set("conductivity", math.nan)
    async with ModbusServer({7: device}) as server, polling(directory_of(binding("cm-1", WATER, server.connection(7))), book):
        await until(lambda: book.of("cm-1"), "a poll")
    kept = book.of("cm-1")[0]
    assert dict(kept.values) == {"ph": 7.5, "dissolved_oxygen": 6.25, "conductivity": None, "temperature": 28.5}
    assert dict(kept.q) == {"dissolved_oxygen": "uncertain:unit_says_uncertain", "conductivity": "bad:not_finite"}


async def test_a_unit_that_falls_silent_reads_bad_and_never_as_its_last_value() -> None:
    book = Book()
    spec = quick(AIR)
    device = ModbusDevice(spec, CLEAN_AIR)
    async with (
        ModbusServer({1: device}) as server,
        polling(directory_of(binding("aqt-1", spec, server.connection())), book) as poller,
    ):
        await until(lambda: book.of("aqt-1"), "a good poll")
        device.silent = True
        before = len(book.of("aqt-1"))
        await until(lambda: len(book.of("aqt-1")) >= before + 4, "polls go on")
        assert all(all_bad(kept, spec, "timeout") for kept in book.of("aqt-1")[before + 1 :])
        assert poller.failing == {"aqt-1": "timeout"}


async def test_a_dead_unit_does_not_slow_units_on_other_lines() -> None:
    book = Book()
    spec = quick(AIR, 1.0)
    dead, *living = (ModbusDevice(spec, CLEAN_AIR) for _ in range(6))
    dead.silent = True
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(ModbusServer({1: device})) for device in (dead, *living)]
        bindings = [binding(f"aqt-{i}", spec, server.connection()) for i, server in enumerate(servers)]
        await stack.enter_async_context(polling(directory_of(*bindings), book))
        await until(lambda: len(book.of("aqt-0")) >= 2, "the dead one is tried twice")
        assert all(all_bad(kept, spec, "timeout") for kept in book.of("aqt-0"))
        for i in range(1, 6):  # two timeouts of 1 s, an interval of 0.1 s
            assert len(book.of(f"aqt-{i}")) >= 12
            assert all(not kept.q for kept in book.of(f"aqt-{i}"))


async def test_behind_one_gateway_a_dead_unit_costs_one_timeout_a_round_and_spoils_nobodys_values() -> None:
    book = Book()
    spec = quick(AIR)
    units = {number: ModbusDevice(spec, {**CLEAN_AIR, "no2": float(number)}) for number in (1, 2, 3)}
    units[2].silent = True
    async with ModbusServer(units) as server:
        bindings = [binding(f"aqt-{number}", spec, server.connection(number)) for number in units]
        missing = binding("aqt-9", spec, server.connection(9))
        async with polling(directory_of(*bindings, missing), book, interval_s=0.5):
            await until(lambda: len(book.of("aqt-3")) >= 4, "the last unit is polled")
    for number in (1, 3):
        assert {kept.values["no2"] for kept in book.of(f"aqt-{number}")} == {float(number)}
    assert all(all_bad(kept, spec, "timeout") for kept in book.of("aqt-2"))
    assert all(all_bad(kept, spec, "exception:11") for kept in book.of("aqt-9"))
    gaps = [b.at_s - a.at_s for a, b in zip(book.of("aqt-3"), book.of("aqt-3")[1:], strict=False)]
    assert sum(gaps) / len(gaps) < 0.7


async def test_an_exception_fails_its_own_points_only() -> None:
    spec = DeviceSpec(
        model="two-blocks", vendor="v", title="t", device_class="air_station", protocol="modbus", source="s", verified="v",
        interval_s=60.0,
        points={
            "near": Point(modbus=ModbusWire("holding", 0, "uint16")),
            "far": Point(modbus=ModbusWire("holding", 500, "uint16")),
            "door": Point(kind="bool", modbus=ModbusWire("discrete", 3, "bit")),
        },
    )  # fmt: skip
    book = Book()
    device = ModbusDevice(spec, {"near": 5.0, "far": 6.0, "door": True})
    del device.words["holding", 500]
    async with (
        ModbusServer({1: device}) as server,
        polling(directory_of(binding("d", spec, server.connection())), book) as poller,
    ):
        await until(lambda: len(book.of("d")) >= 3, "polls")
        assert server.connections == 1  # an exception is an answer: the connection stays
        assert poller.failing == {"d": "exception:2"}
    assert dict(book.of("d")[0].values) == {"near": 5.0, "far": None, "door": True}
    assert dict(book.of("d")[0].q) == {"far": "bad:exception:2"}


async def test_a_stopped_server_is_refused_and_read_again_within_one_interval_of_its_return() -> None:
    book = Book()
    interval_s = 0.5
    async with (
        ModbusServer({1: ModbusDevice(AIR, CLEAN_AIR)}) as server,
        polling(directory_of(binding("aqt-1", AIR, server.connection())), book, interval_s),
    ):
        await until(lambda: book.of("aqt-1"), "a good poll")
        await server.stop()
        await until(lambda: all_bad(book.of("aqt-1")[-1], AIR, "refused"), "refused")
        await server.start()
        back_s = time.monotonic()
        await until(lambda: not book.of("aqt-1")[-1].q, "read again")
        assert book.of("aqt-1")[-1].at_s - back_s < interval_s + 0.25


async def test_a_late_answer_is_never_taken_for_the_answer_to_the_next_question() -> None:
    async def late_once(ask: Ask, send: Send) -> None:
        if ask.number == 1:
            await asyncio.sleep(0.18)  # later than the timeout, earlier than the next answer would be
        with contextlib.suppress(ConnectionError):
            await send(ask.mbap())

    book = Book()
    spec = quick(AIR, 0.1)
    async with RawUnit(late_once) as unit:
        connection = f"tcp://127.0.0.1:{unit.port}?device_id=1"
        async with polling(directory_of(binding("aqt-1", spec, connection)), book):
            await until(lambda: len(book.of("aqt-1")) >= 4, "polls")
    assert all_bad(book.of("aqt-1")[0], spec, "timeout")
    assert [kept.values["no2"] for kept in book.of("aqt-1")[1:4]] == [2.0, 3.0, 4.0]


async def test_a_unit_that_echoes_no_transaction_id_is_refused_by_name() -> None:
    async def no_echo(ask: Ask, send: Send) -> None:
        await send(ask._replace(transaction=0).mbap())

    book = Book()
    async with RawUnit(no_echo) as unit:
        connection = f"tcp://127.0.0.1:{unit.port}?device_id=1"
        async with polling(directory_of(binding("aqt-1", AIR, connection)), book):
            await until(lambda: len(book.of("aqt-1")) >= 3, "polls")
    assert all(all_bad(kept, AIR, "wrong_reply:transaction") for kept in book.of("aqt-1"))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "reset"),  # hangs up
        (struct.pack(">HHHBBBH", 1, 0, 5, 1, 4, 2, 7), "wrong_reply:function"),  # function 4 instead of 3
        (struct.pack(">HHHBBBH", 1, 0, 5, 1, 3, 2, 7), "wrong_reply:length"),  # one register instead of thirteen
        (struct.pack(">HHHBBBH", 99, 0, 5, 1, 3, 2, 7), "wrong_reply:transaction"),  # another transaction
        (struct.pack(">HHHBBBH", 1, 0, 5, 9, 3, 2, 7), "wrong_reply:unit"),  # another unit
        (b"\x00\x01\x00", "timeout"),  # half a header
        (struct.pack(">HHHBB", 1, 0, 3, 1, 0x83) + b"\x04", "exception:4"),
    ],
)
async def test_a_faulty_answer_is_named_and_the_next_poll_is_on_a_new_connection(answer: bytes, why: str) -> None:
    connections = 0

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(12)
            writer.write(answer)
            await writer.drain()
            if answer:
                await reader.read()
        writer.close()

    book = Book()
    spec = quick(AIR, 0.15)
    async with await asyncio.start_server(converse, "127.0.0.1", 0) as server:
        connection = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}?device_id=1"
        async with polling(directory_of(binding("aqt-1", spec, connection)), book):
            await until(lambda: book.of("aqt-1"), "a poll")
            assert all_bad(book.of("aqt-1")[0], spec, why)
            if not why.startswith("exception"):
                await until(lambda: connections >= 2, "a new connection")


async def test_the_poller_follows_thedirectory_of() -> None:
    book = Book()
    async with ModbusServer({1: ModbusDevice(AIR, CLEAN_AIR)}) as one, ModbusServer({1: ModbusDevice(AIR, CLEAN_AIR)}) as two:
        a, b = binding("a", AIR, one.connection()), binding("b", AIR, two.connection())
        holder = [directory_of(a)]
        poller = Poller(lambda: holder[0], book.put, CLOCK, interval_s=0.1)
        task = asyncio.create_task(poller.run())
        try:
            await until(lambda: book.of("a"), "the first unit")
            holder[0] = directory_of(a, b)
            await until(lambda: book.of("b"), "the added unit")
            holder[0] = directory_of(binding("a", AIR, one.connection(), state="suspended"), b)
            await asyncio.sleep(0.2)
            await until(lambda: len(poller._lines) == 1, "the suspended unit's line is closed")
            count = len(book.of("a"))
            more = len(book.of("b")) + 5
            await until(lambda: len(book.of("b")) >= more, "the other goes on")
            assert len(book.of("a")) == count
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_a_connection_string_that_makes_no_sense_is_a_bad_reading_not_a_crash() -> None:
    book = Book()
    async with ModbusServer({1: ModbusDevice(AIR, CLEAN_AIR)}) as server:
        good, bad = binding("good", AIR, server.connection()), binding("bad", AIR, "serial:///dev/ttyS0")
        async with polling(directory_of(good, bad), book) as poller:
            await until(lambda: book.of("good") and len(book.of("bad")) >= 2, "both are told")
            assert poller.failing == {"bad": "bad_connection"}
    assert all_bad(book.of("bad")[-1], AIR, "bad_connection")


async def test_a_full_outbox_is_counted_and_polling_goes_on() -> None:
    book = Book(full=True)
    async with (
        ModbusServer({1: ModbusDevice(AIR, CLEAN_AIR)}) as server,
        polling(directory_of(binding("aqt-1", AIR, server.connection())), book) as poller,
    ):
        await until(lambda: poller.counters.not_kept >= 2, "counted")
        book.full = False
        await until(lambda: book.of("aqt-1"), "kept again")
