"""Simulated Modbus units as clients see them: every function code over every transport, writes, limits, timelines of faults."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from pymodbus.client import AsyncModbusTcpClient, AsyncModbusTlsClient
from pymodbus.client.base import ModbusBaseClient
from pymodbus.framer import FramerType

from iotcore.errors import StartError
from iotcore.reading import Scalar
from iotcore.specs.model import Command, DeviceSpec, Firmware, ModbusLimits, ModbusWire, Point, Revision
from simulators.modbus_device import ModbusDevice, ModbusLine, ModbusServer, security
from simulators.modbus_faults import parse, play
from simulators.modbus_frames import mbap, rtu
from tests.support.certificates import ThrowawayAuthority
from tests.support.until import until

MIXED = DeviceSpec(
    model="mixed", vendor="v", title="t", device_class="traffic_signal", protocol="modbus", source="s", verified="v",
    interval_s=1.0,
    points={
        "level": Point(modbus=ModbusWire("holding", 0, "uint16")),
        "flow": Point(modbus=ModbusWire("holding", 1, "float32")),
        "heat": Point(scale=0.1, modbus=ModbusWire("input", 4, "int16")),
        "door": Point(kind="bool", modbus=ModbusWire("discrete", 3, "bit")),
        "pump": Point(kind="bool", modbus=ModbusWire("coil", 2, "bit")),
        "plan": Point(kind="enum", states={"1": "day", "2": "night"}, modbus=ModbusWire("input", 8, "uint16")),
    },
    commands={
        "plan": Command(
            "two_person", {"en": "Plan"}, ModbusWire("holding", 100, "uint16"),
            states={"1": "day", "2": "night"}, reads_back="plan",
        ),
        "pump": Command("routine", {"en": "Pump"}, ModbusWire("coil", 2, "bit"), reads_back="pump"),
    },
)  # fmt: skip
VALUES: dict[str, Scalar | None] = {"level": 7.0, "flow": 1.5, "heat": -12.5, "door": True, "pump": False, "plan": "day"}


def _mixed() -> ModbusDevice:
    return ModbusDevice(MIXED, VALUES, writable={("holding", 0), ("holding", 1), ("holding", 2)})


@contextlib.asynccontextmanager
async def _client(transport: str, unit: ModbusDevice, folder: Path) -> AsyncIterator[ModbusBaseClient]:
    """pymodbus against one unit with id 5."""
    tls, client_tls = _contexts(folder) if transport == "tls" else (None, None)
    framing = FramerType.RTU if transport == "rtu+tcp" else FramerType.SOCKET
    async with ModbusServer({5: unit}, framing="rtu" if transport == "rtu+tcp" else "tcp", tls=tls) as server:
        client: ModbusBaseClient
        if client_tls is not None:
            client = AsyncModbusTlsClient("127.0.0.1", port=server.port, sslctx=client_tls, reconnect_delay=0, timeout=2)
        else:
            client = AsyncModbusTcpClient("127.0.0.1", port=server.port, framer=framing, reconnect_delay=0, timeout=2)
        assert await client.connect()
        try:
            yield client
        finally:
            client.close()
            await until(lambda: not server.open)


def _contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A unit's server and a driver's client, each with a certificate that the other trusts."""
    ca = ThrowawayAuthority(folder)
    unit, gateway = ca.issue("unit"), ca.issue("gateway")
    client = ssl.create_default_context(cafile=ca.ca_file)
    client.load_cert_chain(gateway.cert_file, gateway.key_file)
    return security(unit.cert_file, unit.key_file, ca.ca_file), client


@pytest.mark.parametrize("transport", ["tcp", "rtu+tcp", "tls"])
async def test_every_function_code_over_every_transport(transport: str, tmp_path: Path) -> None:
    unit = _mixed()
    async with _client(transport, unit, tmp_path) as client:
        assert (await client.read_coils(2, count=1, device_id=5)).bits[0] is False
        assert (await client.read_discrete_inputs(3, count=1, device_id=5)).bits[0] is True
        assert (await client.read_holding_registers(0, count=3, device_id=5)).registers == [7, 0x3FC0, 0]
        assert (await client.read_input_registers(4, count=1, device_id=5)).registers == [0x10000 - 125]
        assert not (await client.write_coil(2, value=True, device_id=5)).isError()
        assert not (await client.write_coils(2, [True], device_id=5)).isError()
        assert not (await client.write_register(0, 0x1234, device_id=5)).isError()
        assert not (await client.write_registers(1, [3, 4], device_id=5)).isError()
        assert not (await client.mask_write_register(address=0, and_mask=0xFF00, or_mask=0x0056, device_id=5)).isError()
        both = await client.readwrite_registers(read_address=0, read_count=3, write_address=2, values=[9], device_id=5)
        assert both.registers == [0x1256, 3, 9]  # the write comes first
    assert unit.words["coil", 2] == 1
    assert (unit.reads, unit.writes_refused, unit.overlapped) == (4, 0, 0)


async def test_a_command_shows_in_the_point_that_reads_it_back(tmp_path: Path) -> None:
    unit = _mixed()
    async with _client("tcp", unit, tmp_path) as client:
        assert not (await client.write_register(100, 2, device_id=5)).isError()
        assert (await client.read_input_registers(8, count=1, device_id=5)).registers == [2]
        assert not (await client.write_register(100, 77, device_id=5)).isError()  # a word that no plan has
        assert (await client.read_input_registers(8, count=1, device_id=5)).registers == [2]
    assert list(unit.writes) == [("holding", 100, (2,)), ("holding", 100, (77,))]
    assert unit.values["plan"] == "night"


async def test_what_no_command_and_no_permission_names_is_refused_and_stays(tmp_path: Path) -> None:
    unit = ModbusDevice(MIXED, VALUES)
    async with _client("tcp", unit, tmp_path) as client:
        for response in (
            await client.write_register(0, 1, device_id=5),
            await client.write_registers(99, [1, 2], device_id=5),  # 100 alone may be written
            await client.mask_write_register(address=0, and_mask=0, or_mask=1, device_id=5),
            await client.readwrite_registers(read_address=0, read_count=1, write_address=0, values=[1], device_id=5),
        ):
            assert response.exception_code == 2
    assert unit.writes_refused == 4
    assert unit.words["holding", 0] == 7


async def _raw(server: ModbusServer, *requests: bytes, answers: int) -> list[bytes]:
    """What a client of plain bytes gets: MBAP frames, in the order they came."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    found = []
    try:
        for request in requests:
            writer.write(request)
            await writer.drain()
        async with asyncio.timeout(2.0):
            for _ in range(answers):
                head = await reader.readexactly(6)
                found.append(head + await reader.readexactly(int.from_bytes(head[4:6], "big")))
    finally:
        writer.close()
        await writer.wait_closed()
    return found


READ_LEVEL = struct.pack(">BHH", 3, 0, 1)


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        (struct.pack(">BHH", 3, 0, 0), 3),  # no registers
        (struct.pack(">BHH", 3, 0, 126), 3),  # more than a frame holds
        (struct.pack(">BHH", 3, 0, 11), 3),  # more than this unit bears
        (struct.pack(">BHH", 3, 50, 1), 2),
        (struct.pack(">BH", 3, 0), 3),  # too short
        (struct.pack(">BHHB", 3, 0, 1, 0), 3),  # too long
        (struct.pack(">BHH", 5, 2, 1), 3),  # a coil is 0 or FF00
        (struct.pack(">BHHBH", 16, 0, 2, 4, 1), 3),  # announces two registers, brings one
        (struct.pack(">B", 17), 1),
    ],
)
async def test_requests_that_a_unit_refuses(pdu: bytes, code: int) -> None:
    spec = replace(MIXED, modbus=ModbusLimits(max_registers=10))
    async with ModbusServer({1: ModbusDevice(spec, VALUES, writable={("holding", 0), ("holding", 1)})}) as server:
        (answer,) = await _raw(server, mbap(1, 1, pdu), answers=1)
    assert answer == mbap(1, 1, bytes((pdu[0] | 0x80, code)))


async def test_a_unit_that_is_not_there_is_named_by_its_gateway() -> None:
    async with ModbusServer({1: _mixed()}) as server:
        assert await _raw(server, mbap(1, 2, READ_LEVEL), answers=1) == [mbap(1, 2, bytes((0x83, 11)))]


async def test_an_overlapping_request_is_answered_busy_and_counted() -> None:
    unit, other = _mixed(), _mixed()
    unit.delay_s = other.delay_s = 0.1
    async with ModbusServer({1: unit, 2: other}) as server:
        answers = await _raw(server, mbap(1, 1, READ_LEVEL), mbap(2, 2, READ_LEVEL), mbap(3, 1, READ_LEVEL), answers=3)
        assert answers[0] == mbap(3, 1, bytes((0x83, 6)))
        assert set(answers[1:]) == {mbap(1, 1, bytes((3, 2, 0, 7))), mbap(2, 2, bytes((3, 2, 0, 7)))}
        assert (unit.overlapped, other.overlapped) == (1, 0)
        await _raw(server, mbap(1, 1, READ_LEVEL), answers=1)  # free again
    assert unit.overlapped == 1


async def test_two_requests_in_one_piece_overlap_however_quick_the_unit_is() -> None:
    unit = _mixed()
    async with ModbusServer({1: unit}) as server:
        answers = await _raw(server, mbap(1, 1, READ_LEVEL) + mbap(2, 1, READ_LEVEL), answers=2)
    assert answers[1] == mbap(2, 1, bytes((0x83, 6)))
    assert unit.overlapped == 1


async def test_a_unit_that_bears_several_requests_answers_them() -> None:
    unit = ModbusDevice(replace(MIXED, modbus=ModbusLimits(one_request_at_a_time=False)), VALUES)
    async with ModbusServer({1: unit}) as server:
        answers = await _raw(server, mbap(1, 1, READ_LEVEL) + mbap(2, 1, READ_LEVEL), answers=2)
    assert [answer[7] for answer in answers] == [3, 3]


async def test_who_asks_sooner_than_the_unit_bears_is_counted() -> None:
    unit = ModbusDevice(replace(MIXED, modbus=ModbusLimits(min_gap_ms=100)), VALUES)
    async with ModbusServer({1: unit}) as server:
        await _raw(server, mbap(1, 1, READ_LEVEL), answers=1)
        await _raw(server, mbap(1, 1, READ_LEVEL), answers=1)
        assert unit.hurried == 1
        await asyncio.sleep(0.1)
        await _raw(server, mbap(1, 1, READ_LEVEL), answers=1)
    assert unit.hurried == 1


async def test_a_pseudo_terminal_is_a_serial_port_with_units_on_it() -> None:
    async with ModbusLine({1: _mixed(), 2: ModbusDevice(MIXED, {**VALUES, "level": 8.0})}) as line:
        assert await _serial(line.path, rtu(1, READ_LEVEL), 7) == rtu(1, bytes((3, 2, 0, 7)))
        assert await _serial(line.path, rtu(2, READ_LEVEL), 7) == rtu(2, bytes((3, 2, 0, 8)))
        assert await _serial(line.path, rtu(9, READ_LEVEL), 7, within_s=0.2) == b""  # nobody there, nobody answers
        assert await _serial(line.path, rtu(1, bytes((17,))), 5) == rtu(1, bytes((0x91, 1)))
        broken = rtu(1, READ_LEVEL)[:-1] + b"\x00"
        assert await _serial(line.path, broken, 7, within_s=0.2) == b""
        assert await _serial(line.path, rtu(1, READ_LEVEL), 7) == rtu(1, bytes((3, 2, 0, 7)))


async def test_a_broadcast_is_obeyed_by_all_and_answered_by_nobody() -> None:
    units = {1: _mixed(), 2: _mixed()}
    async with ModbusLine(units) as line:
        assert await _serial(line.path, rtu(0, struct.pack(">BHH", 6, 100, 2)), 8, within_s=0.2) == b""
    assert [unit.words["holding", 100] for unit in units.values()] == [2, 2]


async def _serial(path: str, request: bytes, size: int, within_s: float = 2.0) -> bytes:
    """What a client of plain bytes hears on a serial port: at most `size` bytes."""
    port = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    heard = bytearray()
    loop = asyncio.get_running_loop()
    loop.add_reader(port, lambda: heard.extend(os.read(port, 256)))
    try:
        os.write(port, request)
        with contextlib.suppress(TimeoutError):
            await until(lambda: len(heard) >= size, within_s)
    finally:
        loop.remove_reader(port)
        os.close(port)
    return bytes(heard)


async def test_modbus_security_takes_no_client_without_a_certificate(tmp_path: Path) -> None:
    tls, _ = _contexts(tmp_path)
    stranger = ssl.create_default_context(cafile=tmp_path / "throwaway-ca.pem")
    async with ModbusServer({1: _mixed()}, tls=tls) as server:
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await _tls_read(server, stranger)
        assert server.bus.units[1].reads == 0


async def _tls_read(server: ModbusServer, context: ssl.SSLContext) -> bytes:
    reader, writer = await asyncio.open_connection(server.host, server.port, ssl=context)
    try:
        writer.write(mbap(1, 1, READ_LEVEL))
        return await reader.readexactly(11)
    finally:
        writer.transport.abort()


async def test_a_timeline_of_faults_comes_and_goes() -> None:
    unit = _mixed()
    async with ModbusServer({1: unit}) as server:
        began_s = time.monotonic()
        playing = asyncio.create_task(play(unit, [(0.0, parse("exception:4")), (0.15, None), (0.3, parse("wrong_unit"))]))
        seen: list[tuple[float, bytes]] = []
        while (now_s := time.monotonic() - began_s) < 0.45:
            (answer,) = await _raw(server, mbap(1, 1, READ_LEVEL), answers=1)
            seen.append((now_s, answer[6:9]))
            await asyncio.sleep(0.02)
        await playing
    middle = {answer for at_s, answer in seen if 0.2 < at_s < 0.28}
    assert {answer for at_s, answer in seen if 0.02 < at_s < 0.12} == {bytes((1, 0x83, 4))}
    assert middle == {bytes((1, 3, 2))}
    assert {answer for at_s, answer in seen if at_s > 0.35} == {bytes((2, 3, 2))}


async def test_a_timeline_that_goes_back_is_refused() -> None:
    with pytest.raises(ValueError, match="must rise"):
        await play(_mixed(), [(1.0, None), (0.5, None)])


def test_a_unit_tells_its_firmware_and_lies_as_that_version_does() -> None:
    spec = replace(
        MIXED,
        firmware=Firmware(
            base=("1.*",),
            modbus=ModbusWire("holding", 200, "string", length=4),
            revisions=(Revision(("2.*",), "level moved", {"level": Point(modbus=ModbusWire("holding", 40, "uint16"))}),),
        ),
    )
    plain, moved = ModbusDevice(spec, VALUES), ModbusDevice(spec, VALUES, firmware_version="2.4")
    odd = ModbusDevice(spec, VALUES, firmware_version="9")
    assert (plain.words["holding", 0], plain.words["holding", 200]) == (7, 0x312E)  # "1."
    assert (moved.words["holding", 40], moved.words["holding", 200]) == (7, 0x322E)  # "2."
    assert ("holding", 0) not in moved.words
    assert (odd.words["holding", 0], odd.words["holding", 200]) == (7, 0x3900)  # "9", which its spec does not know


def test_a_point_of_a_large_panel_is_set_without_encoding_the_rest() -> None:
    points = {f"d{i}": Point(modbus=ModbusWire("holding", i, "uint16")) for i in range(5000)}
    panel = ModbusDevice(replace(MIXED, points=points, commands={}), dict.fromkeys(points, 3.0))
    began_s = time.process_time()
    for i in range(5000):
        panel.set(f"d{i}", 4.0)
    assert time.process_time() - began_s < 1.0  # 200 µs a point; the whole panel anew would take a hundred times that
    assert set(panel.words.values()) == {4}


async def test_a_server_comes_back_on_its_port() -> None:
    async with ModbusServer({1: _mixed()}) as server:
        port = server.port
        await server.stop()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await server.start()
        assert server.port == port
        assert len(await _raw(server, mbap(1, 1, READ_LEVEL), answers=1)) == 1
        with pytest.raises(StartError, match=f"Port {port}"):
            await ModbusServer({}, port=port).start()
