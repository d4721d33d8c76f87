"""Our driver against servers, and our simulated units against clients, that share no code with ours: libmodbus and mbpoll."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drivers.modbus.connection import Connection
from drivers.modbus.poller import Poller
from drivers.modbus.questions import ReadWriteRequest, WriteRequest
from iotcore.clock import SystemClock
from iotcore.reading import Scalar
from iotcore.registry.directory import Binding, Directory
from iotcore.specs import encode, load
from iotcore.specs.model import DeviceSpec
from iotcore.wire.modbus_address import parse
from iotcore.wire.topics import DOMAIN_OF_CLASS
from simulators.modbus_device import ModbusDevice, ModbusLine, ModbusServer
from tests.integration.test_modbus_simulator import MIXED, VALUES
from tests.support import libmodbus
from tests.support.modbus_truth import Book
from tests.support.pty_pair import PtyPair
from tests.support.services import require
from tests.support.shipped import SPECS
from tests.support.until import until

CLOCK = SystemClock()
AIR, WATER = SPECS["vaisala-aqt530"], SPECS["endress-liquiline-cm44x"]
CLEAN_AIR: dict[str, Scalar | None] = {
    "no2": 21.0, "so2": 3.0, "co": 412.0, "h2s": -1.0, "o3": 38.0, "no": 4.0, "pm25": 23.1, "pm10": 41.5,
    "temperature": 27.4, "humidity": 81.2, "pressure": 1008.6,
}  # fmt: skip
CLEAR_WATER: dict[str, Scalar | None] = {"ph": 7.5, "dissolved_oxygen": 6.25, "conductivity": 0.5, "temperature": 28.5}
UNIT = 17


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the compiled programs are."""
    folder: Path = tmp_path_factory.mktemp("libmodbus")
    for program in ("server", "client"):
        libmodbus.build(program, folder)
    return folder


@contextlib.asynccontextmanager
async def _polling(spec: DeviceSpec, connection: str) -> AsyncIterator[Book]:
    book = Book()
    domain = DOMAIN_OF_CLASS[spec.device_class]
    directory = Directory({"unit": Binding("unit", "unit", spec, domain, "modbus-1", "active", connection=connection)})
    polling = asyncio.create_task(Poller(lambda: directory, book.put, CLOCK, interval_s=0.1).run())
    try:
        yield book
    finally:
        polling.cancel()
        await asyncio.wait([polling])


@pytest.mark.parametrize(
    ("spec", "values"), [(AIR, CLEAN_AIR), (WATER, CLEAR_WATER), (MIXED, VALUES)], ids=["air", "water", "mixed"]
)
async def test_the_driver_reads_a_libmodbus_server(spec: DeviceSpec, values: dict[str, Scalar | None], programs: Path) -> None:
    async with (
        libmodbus.server(programs / "libmodbus_server", encode.image(spec, values), "tcp") as server,
        _polling(spec, f"tcp://127.0.0.1:{server.port}?device_id={UNIT}") as book,
    ):
        await until(lambda: len(book.by_device.get("unit", [])) > 3)
    assert {(tuple(told.values.items()), tuple(told.q)) for told in book.by_device["unit"]} == {(tuple(values.items()), ())}


async def test_the_driver_reads_a_libmodbus_server_on_a_serial_line(programs: Path) -> None:
    words = encode.image(WATER, CLEAR_WATER)
    async with (
        PtyPair() as pair,
        libmodbus.server(programs / "libmodbus_server", words, "rtu", pair.one, str(UNIT)),
        _polling(WATER, f"rtu://{pair.other}?baud=19200&parity=N&device_id={UNIT}") as book,
    ):
        await until(lambda: len(book.by_device.get("unit", [])) > 3)
    assert [told.q for told in book.by_device["unit"]] == [{}] * len(book.by_device["unit"])
    assert book.by_device["unit"][-1].values == CLEAR_WATER


async def test_the_driver_is_told_no_by_a_libmodbus_server(programs: Path) -> None:
    far = load.parse(
        (load.shipped_folder() / "vaisala-aqt530.yaml").read_bytes().replace(b"0x0C", b"5000"), "vaisala-aqt530.yaml"
    )
    async with (
        libmodbus.server(programs / "libmodbus_server", encode.image(AIR, CLEAN_AIR), "tcp") as server,
        _polling(far, f"tcp://127.0.0.1:{server.port}?device_id={UNIT}") as book,
    ):
        await until(lambda: len(book.by_device.get("unit", [])) > 1)
    told = book.by_device["unit"][-1]
    assert told.q == {"pressure": "bad:exception:2"}
    assert told.values == {**CLEAN_AIR, "pressure": None}


@pytest.mark.parametrize("transport", ["tcp", "rtu"])
async def test_the_driver_writes_to_a_libmodbus_server(transport: str, programs: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        if transport == "tcp":
            server = await stack.enter_async_context(
                libmodbus.server(programs / "libmodbus_server", {("holding", 8): 0x1234}, "tcp")
            )
            address = parse(f"tcp://127.0.0.1:{server.port}?device_id={UNIT}")
        else:
            pair = await stack.enter_async_context(PtyPair())
            served = libmodbus.server(programs / "libmodbus_server", {("holding", 8): 0x1234}, "rtu", pair.one, str(UNIT))
            server = await stack.enter_async_context(served)
            address = parse(f"rtu://{pair.other}?baud=19200&parity=N&device_id={UNIT}")
        connection = Connection(address.line)
        stack.callback(connection.close)

        async def write(request: WriteRequest | ReadWriteRequest) -> list[int]:
            reply = await connection.write(UNIT, request, 2.0)
            assert reply.why == ""
            return list(reply.words)

        await write(WriteRequest("coil", 3, (1,)))
        assert await server.wrote() == "coil 3 1"
        await write(WriteRequest("coil", 4, (0, 1, 1)))
        assert [await server.wrote() for _ in range(2)] == ["coil 5 1", "coil 6 1"]
        await write(WriteRequest("holding", 7, (99,)))
        assert await server.wrote() == "holding 7 99"
        await write(WriteRequest("holding", 9, (5, 6)))
        assert [await server.wrote() for _ in range(2)] == ["holding 9 5", "holding 10 6"]
        await write(WriteRequest("holding", 8, mask=(0xFF00, 0x0056)))
        assert await server.wrote() == f"holding 8 {0x1256}"
        assert await write(ReadWriteRequest(7, 3, 20, (77,))) == [99, 0x1256, 5]
        assert await server.wrote() == "holding 20 77"


QUESTIONS = {
    "read holding 0 3": f"7 {0x3FC0} 0",
    "read input 4 1": str(0x10000 - 125),
    "read discrete 3 1": "1",
    "coil 2 1": "ok",
    "read coil 2 1": "1",
    "coils 2 0": "ok",
    "register 100 2": "ok",
    "read input 8 1": "2",
    "registers 0 5 6": "ok",
    "mask 0 65280 17": "ok",
    "both 0 2 1 9": f"{0x0011} 9",
    "read holding 77 1": "error: Illegal data address",
    "register 50 1": "error: Illegal data address",
}  # question → answer, in this order


@pytest.mark.parametrize("transport", ["tcp", "rtu"])
async def test_a_libmodbus_client_reads_and_writes_a_simulated_unit(transport: str, programs: Path) -> None:
    unit = ModbusDevice(MIXED, VALUES, writable={("holding", 0), ("holding", 1)})
    client = programs / "libmodbus_client"
    if transport == "tcp":
        async with ModbusServer({UNIT: unit}) as server:
            told = await libmodbus.ask(client, ["tcp", "127.0.0.1", str(server.port), str(UNIT)], list(QUESTIONS))
    else:
        async with ModbusLine({UNIT: unit}) as line:
            told = await libmodbus.ask(client, ["rtu", line.path, str(UNIT)], list(QUESTIONS))
    assert dict(zip(QUESTIONS, told, strict=True)) == QUESTIONS
    assert (unit.writes_refused, unit.overlapped) == (1, 0)


async def test_mbpoll_reads_a_simulated_station_over_tcp() -> None:
    async with ModbusServer({UNIT: ModbusDevice(AIR, CLEAN_AIR)}) as server:
        told = await _mbpoll(
            "-m", "tcp", "-a", str(UNIT), "-t", "4", "-0", "-r", "0", "-c", "11", "-p", str(server.port), "127.0.0.1"
        )
    assert told == [21, 3, 412, 0, -1, 38, 4, 0, 231, 415, 274]


async def test_mbpoll_reads_a_simulated_station_on_a_serial_line() -> None:
    async with ModbusLine({UNIT: ModbusDevice(WATER, CLEAR_WATER)}) as line:
        told = await _mbpoll(
            "-m", "rtu", "-a", str(UNIT), "-b", "9600", "-P", "none", "-t", "3:float", "-B", "-0", "-r", "0", "-c", "1", line.path
        )  # fmt: skip
    assert told == [7.5]


async def _mbpoll(*args: str) -> list[float]:
    """The values that mbpoll prints, in order."""
    process = await asyncio.create_subprocess_exec(
        str(require("mbpoll")), "-1", *args, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(10.0):
        told = (await process.communicate())[0].decode()
    assert process.returncode == 0, told
    return [float(found[1]) for found in re.finditer(r"^\[\d+\]:\s+\S*?(?:\d+ \()?(-?[\d.]+)\)?\s*$", told, re.MULTILINE)]
