"""Connections of all four kinds against pymodbus's servers, and against a unit that does everything wrong."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import uvloop
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer, ModbusTlsServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.modbus.connection import Connection
from drivers.modbus.questions import Fault, ReadWriteRequest, Reply, WriteRequest
from iotcore.specs.bus import Serial
from iotcore.specs.model import Table
from iotcore.specs.plan import Request
from iotcore.wire.modbus_address import Line
from tests.support.certificates import ThrowawayAuthority
from tests.support.raw_unit import Ask, RawUnit, Send
from tests.support.serial_line import SerialCable

FAST = Serial(115_200)
BAUD = FAST.baud


def _block(values: list[int] | list[bool], kind: DataType) -> list[SimData]:
    return [SimData(0, values=values, datatype=kind)]


def _device() -> SimDevice:
    """Coils T F T F …, discrete inputs F T F T …, holding 0 1 2 …, input 1000 1001 …"""
    bits, other = [True, False] * 400, [False, True] * 400
    holding, inputs = list(range(300)), [1000 + n for n in range(300)]
    blocks = (
        _block(bits, DataType.BITS),
        _block(other, DataType.BITS),
        _block(holding, DataType.REGISTERS),
        _block(inputs, DataType.REGISTERS),
    )
    return SimDevice(3, blocks)


def _request(table: Table, address: int, count: int) -> Request:
    return Request(table, address, count, ())


@contextlib.asynccontextmanager
async def _tcp(framer: FramerType = FramerType.SOCKET) -> AsyncIterator[int]:
    server = ModbusTcpServer(_device(), framer=framer, address=("127.0.0.1", 0))
    await server.listen()
    try:
        yield cast(asyncio.Server, server.transport).sockets[0].getsockname()[1]
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


@contextlib.asynccontextmanager
async def _tls(folder: Path) -> AsyncIterator[int]:
    """Asks for a client certificate of the authority in `folder`; `ours` is one."""
    authority = ThrowawayAuthority(folder / "ca")
    pair, ours = authority.issue("localhost"), authority.issue("ours")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert_file, pair.key_file)
    context.load_verify_locations(authority.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    for name, file in (("ours.pem", ours.cert_file), ("ours.key", ours.key_file), ("ours-ca.pem", authority.ca_file)):
        (folder / name).write_bytes(file.read_bytes())
    server = ModbusTlsServer(_device(), framer=FramerType.TLS, address=("127.0.0.1", 0), sslctx=context)
    await server.listen()
    try:
        yield cast(asyncio.Server, server.transport).sockets[0].getsockname()[1]
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


@contextlib.asynccontextmanager
async def _serial() -> AsyncIterator[tuple[str, SerialCable]]:
    async with SerialCable() as cable:
        server = ModbusSerialServer(_device(), port=cable.two, baudrate=BAUD, parity="N", stopbits=1)
        await server.listen()
        try:
            yield cable.one, cable
        finally:
            await server.shutdown()  # type: ignore[no-untyped-call]


@contextlib.asynccontextmanager
async def _connected(kind: str, folder: Path) -> AsyncIterator[Connection]:
    async with contextlib.AsyncExitStack() as stack:
        match kind:
            case "tcp":
                line = Line("tcp", "127.0.0.1", await stack.enter_async_context(_tcp()))
            case "rtu+tcp":
                line = Line("rtu+tcp", "127.0.0.1", await stack.enter_async_context(_tcp(FramerType.RTU)))
            case "tls":
                line = Line("tls", "127.0.0.1", await stack.enter_async_context(_tls(folder)), "ours")
            case _:
                line = Line("rtu", (await stack.enter_async_context(_serial()))[0])
        connection = Connection(line, FAST, folder)
        stack.callback(connection.close)
        yield connection


@pytest.mark.parametrize("kind", ["tcp", "rtu+tcp", "rtu", "tls"])
async def test_every_function_code_over_every_line(kind: str, tmp_path: Path) -> None:
    await _every_function_code(kind, tmp_path)


@pytest.mark.parametrize("kind", ["tcp", "rtu+tcp", "rtu", "tls"])
async def test_the_same_on_the_loop_that_the_process_runs_on(kind: str, tmp_path: Path) -> None:
    await asyncio.to_thread(uvloop.run, _every_function_code(kind, tmp_path))


async def _every_function_code(kind: str, folder: Path) -> None:
    async with _connected(kind, folder) as line:

        async def read(table: Table, address: int, count: int) -> list[int]:
            reply = await line.read(3, _request(table, address, count), 2.0)
            assert reply.why == ""
            return list(reply.words)

        assert await read("coil", 0, 11) == [1, 0] * 5 + [1]
        assert await read("discrete", 1, 3) == [1, 0, 1]
        assert await read("holding", 5, 125) == list(range(5, 130))
        assert await read("input", 299, 1) == [1299]
        for write in (
            WriteRequest("coil", 1, (1,)),
            WriteRequest("coil", 4, (0, 1, 1)),
            WriteRequest("holding", 10, (65_535,)),
            WriteRequest("holding", 20, (7, 8, 9)),
            WriteRequest("holding", 30, (31,), multiple=True),
            WriteRequest("holding", 40, mask=(0xFFF0, 0x0005)),
        ):
            assert await line.write(3, write, 2.0) == Reply()
        assert await read("coil", 0, 8) == [1, 1, 1, 0, 0, 1, 1, 0]
        assert await read("holding", 10, 1) == [65_535]
        assert await read("holding", 19, 5) == [19, 7, 8, 9, 23]
        assert await read("holding", 30, 1) == [31]
        assert await read("holding", 40, 1) == [(40 & 0xFFF0) | (0x0005 & 0x000F)]
        both = await line.write(3, ReadWriteRequest(50, 3, 51, (500,)), 2.0)
        assert (list(both.words), both.why) == ([50, 500, 52], "")
        refused = await line.read(3, _request("holding", 299, 2), 2.0)
        assert (refused.why, refused.fault) == ("exception:2", Fault.EXCEPTION)
        assert (line.connects, line.hung_up()) == (1, False)


async def test_on_tls_both_sides_must_show_a_certificate_that_the_other_trusts(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    async with _tls(tmp_path / "site") as port:
        site, ask = tmp_path / "site", _request("holding", 0, 1)
        foreign = ThrowawayAuthority(tmp_path / "foreign").issue("foreign")
        (site / "foreign.pem").write_bytes(foreign.cert_file.read_bytes())
        (site / "foreign.key").write_bytes(foreign.key_file.read_bytes())
        (site / "foreign-ca.pem").write_bytes((site / "ours-ca.pem").read_bytes())
        (site / "trusting.pem").write_bytes((site / "ours.pem").read_bytes())
        (site / "trusting.key").write_bytes((site / "ours.key").read_bytes())
        (site / "trusting-ca.pem").write_bytes((tmp_path / "foreign" / "throwaway-ca.pem").read_bytes())
        for identity, why in (
            ("ours", ""),
            ("foreign", "tls_refused"),
            ("trusting", "server_not_verified"),
            ("nobody", "no_certificate"),
        ):
            connection = Connection(Line("tls", "127.0.0.1", port, identity), certs=site)
            reply = await connection.read(3, ask, 2.0)
            assert reply.why == why
            assert why == "" or reply.fault is Fault.LINE
            connection.close()
        assert (await Connection(Line("tls", "127.0.0.1", port, "ours")).read(3, ask, 2.0)).why == "no_certificate"


@pytest.mark.parametrize("framing", ["mbap", "rtu"])
async def test_an_answer_byte_by_byte_is_an_answer(framing: str) -> None:
    async def trickle(ask: Ask, send: Send) -> None:
        for byte in ask.mbap() if framing == "mbap" else ask.rtu():
            await send(bytes((byte,)))
            await asyncio.sleep(0.002)

    async with RawUnit(trickle, framing) as unit:
        line = Connection(Line("tcp" if framing == "mbap" else "rtu+tcp", "127.0.0.1", unit.port), FAST)
        replies = [await line.read(1, _request("holding", 0, 5), 2.0) for _ in range(3)]
        line.close()
    assert [list(reply.words) for reply in replies] == [[1] * 5, [2] * 5, [3] * 5]
    assert unit.connections == 1


@pytest.mark.parametrize("framing", ["mbap", "rtu"])
async def test_a_byte_a_second_is_a_timeout_and_takes_no_longer(framing: str) -> None:
    async def drip(ask: Ask, send: Send) -> None:
        for byte in ask.mbap() if framing == "mbap" else ask.rtu():
            await asyncio.sleep(0.2)
            await send(bytes((byte,)))

    async with RawUnit(drip, framing) as unit:
        line = Connection(Line("tcp" if framing == "mbap" else "rtu+tcp", "127.0.0.1", unit.port), FAST)
        began_s = time.monotonic()
        reply = await line.read(1, _request("holding", 0, 5), 0.5)
        assert (reply.why, reply.fault) == ("timeout", Fault.DEAD)
        assert time.monotonic() - began_s < 1.0
        line.close()


async def test_two_answers_in_one_segment_are_none_and_the_next_question_is_on_a_new_connection() -> None:
    async def twice(ask: Ask, send: Send) -> None:
        await send(ask.mbap() * (2 if ask.number == 1 else 1))

    async with RawUnit(twice) as unit:
        line = Connection(Line("tcp", "127.0.0.1", unit.port))
        assert (await line.read(1, _request("holding", 0, 5), 1.0)).why == "wrong_reply:extra"
        assert list((await line.read(1, _request("holding", 0, 5), 1.0)).words) == [2] * 5
        assert unit.connections == 2
        line.close()


async def test_bytes_that_nobody_asked_for_end_a_tcp_connection() -> None:
    async def and_again(ask: Ask, send: Send) -> None:
        await send(ask.mbap())
        await asyncio.sleep(0.05)
        with contextlib.suppress(ConnectionError):
            await send(ask.mbap(ask.pdu(word=666)))

    async with RawUnit(and_again) as unit:
        line = Connection(Line("tcp", "127.0.0.1", unit.port))
        for number in (1, 2, 3):
            assert list((await line.read(1, _request("holding", 0, 5), 1.0)).words) == [number] * 5
            await asyncio.sleep(0.1)
        assert unit.connections == 3
        assert line.unasked > 0
        line.close()


@pytest.mark.parametrize("framing", ["mbap", "rtu"])
async def test_a_late_answer_finds_nobody(framing: str) -> None:
    async def late(ask: Ask, send: Send) -> None:
        if ask.number == 1:
            await asyncio.sleep(0.3)
        with contextlib.suppress(ConnectionError):
            await send(ask.mbap() if framing == "mbap" else ask.rtu())

    async with RawUnit(late, framing) as unit:
        line = Connection(Line("tcp" if framing == "mbap" else "rtu+tcp", "127.0.0.1", unit.port), FAST)
        assert (await line.read(1, _request("holding", 0, 5), 0.1)).why == "timeout"
        for number in (2, 3, 4):
            assert list((await line.read(1, _request("holding", 0, 5), 1.0)).words) == [number] * 5
            await asyncio.sleep(0.1)
        line.close()


@pytest.mark.parametrize("framing", ["mbap", "rtu"])
async def test_who_gives_up_on_a_question_closes_the_connection(framing: str) -> None:
    async def slow(ask: Ask, send: Send) -> None:
        if ask.number == 1:
            await asyncio.sleep(0.1)
        with contextlib.suppress(ConnectionError):
            await send(ask.mbap() if framing == "mbap" else ask.rtu())

    async with RawUnit(slow, framing) as unit:
        line = Connection(Line("tcp" if framing == "mbap" else "rtu+tcp", "127.0.0.1", unit.port), FAST)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(line.read(1, _request("holding", 0, 5), 1.0), 0.05)
        assert list((await line.read(1, _request("holding", 0, 5), 1.0)).words) == [2] * 5
        assert unit.connections == 2
        line.close()


async def test_a_late_answer_on_a_serial_port_is_not_taken_for_another_units() -> None:
    async def late(ask: Ask, send: Send) -> None:
        await asyncio.sleep(0.15 if ask.unit == 1 else 0.1)
        await send(ask.rtu(ask.pdu(word=ask.unit)))

    async with SerialCable() as cable:
        unit = RawUnit(late, "rtu")
        answering = asyncio.create_task(unit.on(cable.two))
        line = Connection(Line("rtu", cable.one), FAST)
        assert (await line.read(1, _request("holding", 0, 5), 0.1)).why == "timeout"
        assert list((await line.read(2, _request("holding", 0, 5), 1.0)).words) == [2] * 5
        line.close()
        answering.cancel()
        await asyncio.wait([answering])


async def test_a_serial_port_that_is_pulled_out_or_was_never_there_has_a_name() -> None:
    async with _serial() as (port, _):
        first, second = Connection(Line("rtu", port), FAST), Connection(Line("rtu", port), FAST)
        assert (await first.read(3, _request("holding", 0, 1), 1.0)).why == ""
        assert (await second.read(3, _request("holding", 0, 1), 1.0)).why == "port_in_use"
        first.close()
        assert (await second.read(3, _request("holding", 0, 1), 1.0)).why == ""
        second.close()
    missing = Connection(Line("rtu", "/dev/no-such-port"), FAST)
    reply = await missing.read(3, _request("holding", 0, 1), 1.0)
    assert (reply.why, reply.fault) == ("no_such_port", Fault.LINE)


async def test_a_cut_serial_cable_is_told_at_once() -> None:
    async with SerialCable() as cable:
        line = Connection(Line("rtu", cable.one), FAST)
        asking = asyncio.create_task(line.read(3, _request("holding", 0, 1), 5.0))
        await asyncio.sleep(0.1)
        cable.cut()
        began_s = time.monotonic()
        assert (await asking).why in {"reset", "timeout"}
        assert time.monotonic() - began_s < 1.0


@pytest.mark.parametrize(("host", "why"), [("127.0.0.1", "refused"), ("no-such-host.invalid", "unknown_host")])
async def test_no_connection_has_a_name(host: str, why: str) -> None:
    reply = await Connection(Line("tcp", host, 1)).read(1, _request("holding", 0, 1), 5.0)
    assert (reply.why, reply.fault) == (why, Fault.LINE)
