"""What a technician does, as processes against a simulated unit that is a process, too."""

from __future__ import annotations

from pathlib import Path

import pytest
from pymodbus import ModbusDeviceIdentification
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from iotcore.registry.store import open_registry
from tests.support.ports import free_port
from tests.support.technician import iotcore, said, served

WATER = "endress-liquiline-cm44x"
PUMP = """
model: acme-pump
vendor: Acme
title: Acme pump
device_class: water_station
protocol: modbus
source: a test
verified: a test
interval_s: 10
modbus: {byte_order: CDAB}
points:
  speed: {unit: "%", scale: 0.1, modbus: {table: holding, address: 0, type: uint16}, title: {vi: Tốc độ, en: Speed}}
  flow: {unit: L/s, modbus: {table: holding, address: 2, type: float32}, title: {vi: Lưu lượng, en: Flow}}
commands:
  set_speed:
    safety: two_person
    title: {vi: Đặt tốc độ, en: Set the speed}
    modbus: {table: holding, address: 10, type: uint16}
    range: [0, 1000]
    reads_back: speed
"""
PUMP_ALLOW = """
devices:
  - device: pump-1
    connection: CONNECTION
    model: acme-pump
    commands:
      - {name: set_speed, range: [0, 500], every_s: 60}
"""


@pytest.fixture
def pump(tmp_path: Path) -> Path:
    """A folder with the spec of a pump."""
    folder = tmp_path / "specs"
    folder.mkdir()
    (folder / "acme-pump.yaml").write_text(PUMP)
    return folder


@pytest.mark.parametrize("way", [("--port", "0"), ("--port", "0", "--rtu-tcp"), ("--pty",)], ids=["tcp", "rtu-tcp", "pty"])
async def test_a_served_unit_is_read_by_its_spec_over_every_line(tmp_path: Path, way: tuple[str, ...]) -> None:
    settings = ("--id", "3", "--set", "ph=7.21", "--set", "temperature=none")
    async with served(WATER, *way, *settings, cwd=tmp_path) as connection:
        assert connection.endswith("device_id=3")
        read = await said("modbus", "read", connection, "--model", WATER, cwd=tmp_path)
        assert read.code == 0, read.err
        assert "ph" in read.out
        assert "7.21 pH" in read.out
        assert "bad:not_finite" in read.out
        found = await said("modbus", "read", connection, "--model", WATER, "-o", "json", cwd=tmp_path)
        points = {point["point"]: point for point in found.json["points"]}
        assert points["ph"]["value"] == pytest.approx(7.21)
        assert (points["temperature"]["value"], points["temperature"]["why"]) == (None, "not_finite")


async def test_bare_registers_come_with_both_of_their_numbers(tmp_path: Path) -> None:
    async with served(WATER, "--port", "0", "--set", "ph=7.25", cwd=tmp_path) as connection:
        read = await said("modbus", "read", connection, "--table", "input", "--address", "0", "--type", "float32", cwd=tmp_path)
        assert (read.code, read.out.split()) == (0, ["input", "0", "(30001)", "40E8", "0000", "7.25"])
        gone = await said("modbus", "read", connection, "--address", "900", cwd=tmp_path)
        assert gone.code == 1
        assert "exception:2: The unit has no such address" in gone.err


async def test_the_byte_order_is_found_and_what_cannot_be_told_apart_is_said(tmp_path: Path, pump: Path) -> None:
    spec = str(pump / "acme-pump.yaml")
    async with served(spec, "--port", "0", "--set", "flow=12.6", cwd=tmp_path) as connection:
        sniff = ("modbus", "sniff-order", connection, "--address", "2", "--samples", "2", "--every", "0.05")
        several = await said(*sniff, cwd=tmp_path)
        assert (several.code, "several orders fit" in several.out) == (1, True)  # 12.6 in the order DCBA is 793001.6
        found = await said(*sniff, "--near", "12.5", cwd=tmp_path)
        assert (found.code, "byte_order: CDAB" in found.out) == (0, True)
        far = await said(*sniff, "--near", "400", cwd=tmp_path)
        assert far.code == 1
        assert "no suggestion: no order fits" in far.out
        zero = await said("modbus", "sniff-order", connection, "--address", "0", "--type", "uint16", cwd=tmp_path)
        assert "all orders give the same value" in zero.out


async def test_a_scan_finds_the_unit_and_says_how_to_reach_it(tmp_path: Path) -> None:
    async with served(WATER, "--port", "0", "--id", "17", cwd=tmp_path) as connection:
        place = connection.removeprefix("tcp://").partition("?")[0]
        scan = await said("modbus", "scan", place, "--ids", "10-20", "-o", "json", cwd=tmp_path)
        assert scan.code == 0
        assert [(row["device_id"], row["connection"]) for row in scan.json] == [(17, connection)]
        nobody = await said("modbus", "scan", place, "--ids", "1-3", cwd=tmp_path)
        assert nobody.code == 1
        assert "0 of 3 device ids answer" in nobody.out


async def test_a_scan_of_a_serial_line_times_out_quickly_and_finds_the_unit(tmp_path: Path) -> None:
    async with served(WATER, "--pty", "--id", "2", cwd=tmp_path) as connection:
        device = connection.removeprefix("rtu://").partition("?")[0]
        scan = await said("modbus", "scan", device, "--ids", "1-3", "--timeout", "0.2", cwd=tmp_path)
        assert scan.code == 0
        assert "1 of 3 device ids answer" in scan.out


async def test_a_scan_tells_what_a_unit_says_it_is(tmp_path: Path) -> None:
    port = free_port()
    identity = ModbusDeviceIdentification(  # type: ignore[no-untyped-call]  # pymodbus leaves it untyped
        info_name={"VendorName": "Acme", "ProductCode": "P1", "MajorMinorRevision": "2.4"}
    )
    device = SimDevice(1, SimData(0, count=4, datatype=DataType.REGISTERS))
    server = ModbusTcpServer(device, identity=identity, address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    try:
        scan = await said("modbus", "scan", f"127.0.0.1:{port}", "--ids", "1", cwd=tmp_path)
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]
    assert "vendor Acme, product P1, version 2.4" in scan.out


async def test_a_write_takes_two_people_an_allow_list_and_is_seen_to_be_taken(tmp_path: Path, pump: Path) -> None:
    async with served(str(pump / "acme-pump.yaml"), "--port", "0", "--set", "speed=10", cwd=tmp_path) as connection:
        allow = tmp_path / "allow.yaml"
        allow.write_text(PUMP_ALLOW.replace("CONNECTION", connection))
        write = (
            "modbus",
            "write",
            connection,
            "--specs",
            str(pump),
            "--command",
            "set_speed",
            "250",
            "--by",
            "lan",
            "--id",
            "w-1",
        )
        nothing = await said(*write, cwd=tmp_path)
        assert (nothing.code, "there is no allow-list" in nothing.err) == (1, True)
        listed = (*write, "--allow", str(allow))
        alone = await said(*listed, cwd=tmp_path)
        assert alone.code == 1
        assert "refused: set_speed = 250 of pump-1: second_person_needed" in alone.out
        both = await said(*listed, "--second", "minh", cwd=tmp_path)
        assert (both.code, "verified: set_speed = 250 of pump-1" in both.out) == (0, True), both.out + both.err
        again = await said(*listed, "--second", "minh", "-o", "json", cwd=tmp_path)
        assert (again.json["state"], again.json["repeated"]) == ("verified", True)
        shown = await said("modbus", "read", connection, "--model", str(pump / "acme-pump.yaml"), "-o", "json", cwd=tmp_path)
        assert shown.json["points"][0]["value"] == 25.0
        assert len((tmp_path / "modbus-writes.audit").read_text().splitlines()) == 3


async def test_with_a_platform_the_allow_list_is_the_settings_and_the_audit_the_registry_s(tmp_path: Path, pump: Path) -> None:
    async with served(str(pump / "acme-pump.yaml"), "--port", "0", cwd=tmp_path) as connection:
        (tmp_path / "allow.yaml").write_text(PUMP_ALLOW.replace("CONNECTION", connection))
        (tmp_path / "iotcore.toml").write_text('data = "data"\nspecs = "specs"\nmodbus_allow = "allow.yaml"\n')
        write = ("modbus", "write", connection, "--command", "set_speed", "250", "--by", "lan", "--second", "minh")
        done = await said(*write, cwd=tmp_path)
        assert (done.code, "audited in the registry" in done.out) == (0, True), done.out + done.err
    async with await open_registry(f"sqlite://{tmp_path / 'data' / 'registry.db'}") as registry:
        assert [entry.deed.action for entry in await registry.audit_entries()] == ["modbus.write", "modbus.write.end"]
        assert await registry.verify_audit() == []
    assert not (tmp_path / "modbus-writes.audit").exists()


def test_an_allow_list_that_lets_too_much_through_is_refused_with_everything_wrong(tmp_path: Path, pump: Path) -> None:
    allow = tmp_path / "allow.yaml"
    allow.write_text(PUMP_ALLOW.replace("CONNECTION", "nowhere").replace("[0, 500]", "[0, 5000]"))
    write = ("modbus", "write", "tcp://127.0.0.1:1", "--specs", str(pump), "--command", "set_speed", "1", "--allow", str(allow))
    refused = iotcore(*write, cwd=tmp_path)
    assert refused.code == 1
    assert "devices[0].connection" in refused.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("modbus", "read", "10.0.0.1", "--address", "0"), "begins with none of tcp://"),
        (("modbus", "read", "tcp://127.0.0.1:1?device_id=1", "--address", "0"), "refused: Nothing listens there"),
        (("modbus", "read", "rtu:///dev/ttyNOWHERE?device_id=1", "--address", "0"), "no_such_port: There is no such serial port"),
        (("modbus", "read", "tcp://127.0.0.1:1?device_id=1"), "--address is not said"),
        (("modbus", "scan", "127.0.0.1:1", "--ids", "300"), "no range of device ids"),
        (("modbus", "scan", "127.0.0.1:1"), "refused. Nothing listens there"),
        (("modbus", "serve", "acme"), "There is no spec of 'acme'"),
        (("modbus", "serve", "iotcore-smoke-heat"), "does not speak Modbus"),
        (("modbus", "serve", WATER, "--set", "salt=1", "--set", "ph=red"), "salt=1: is not point=value"),
        (("modbus", "sniff-order", "tcp://127.0.0.1:1", "--address", "0", "--range", "9,1"), "is not LO,HI"),
        (("spec", "plan", WATER, "--loop", "1-2"), "repeats nothing over 'loop'"),
        (("spec", "import", "telegraf", "nowhere.conf", "--model", "a", "--vendor", "b", "--class", "gateway"), "cannot be read"),
    ],
)
def test_what_cannot_be_is_said_in_one_line_with_what_to_do(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    ended = iotcore(*arguments, cwd=tmp_path)
    assert ended.code == 1
    assert words in ended.err


def test_check_says_everything_of_all_files_and_ends_with_1(tmp_path: Path, pump: Path) -> None:
    assert iotcore("spec", "check", str(pump), cwd=tmp_path).code == 0
    (pump / "acme-fan.yaml").write_text(PUMP.replace("uint16", "uint17"))
    (pump / "other.yaml").write_text("a: [")
    checked = iotcore("spec", "check", str(pump), "-o", "json", cwd=tmp_path)
    assert checked.code == 1
    assert {problem["file"] for problem in checked.json["problems"]} == {"acme-fan.yaml", "other.yaml"}
    assert len(checked.json["problems"]) >= 3


def test_a_plan_shows_requests_registers_holes_bytes_and_time(tmp_path: Path) -> None:
    slow = iotcore("spec", "plan", WATER, "--baud", "1200", "--parity", "E", "-o", "json", cwd=tmp_path).json
    fast = iotcore("spec", "plan", WATER, "--baud", "115200", "-o", "json", cwd=tmp_path).json
    (row,) = slow["requests"]
    assert (row["table"], row["address"], row["count"], row["holes"]) == ("input", 0, 15, 3)
    assert (row["question_bytes"], row["answer_bytes"]) == (8, 35)
    assert row["line_s"] == pytest.approx((43 + 7) * 11 / 1200)  # bytes and two silences of 3.5 characters, of 11 bits each
    assert fast["requests"][0]["line_s"] == pytest.approx(43 * 10 / 115_200 + 2 * 0.00175)
    shown = iotcore("spec", "plan", WATER, "--tcp", cwd=tmp_path)
    assert shown.code == 0
    assert "share of the bus" in shown.out


FIRE = """
model: acme-panel
vendor: Acme
title: Acme panel
device_class: fire_panel
protocol: modbus
source: a test
verified: a test
interval_s: 5
fire_budget_s: 10
modbus: {baud: 9600, timeout_s: 1}
repeats:
  - over: {loop: [1, 4], detector: [1, 159]}
    stride: {loop: 500, detector: 1}
    points:
      "l{loop}_d{detector}":
        kind: enum
        states: {"0": normal, "1": fire}
        modbus: {table: holding, address: 1, type: uint16}
        poll_s: 2
        title: {vi: Đầu báo, en: Detector}
"""


def test_a_plan_says_whether_the_fire_budget_is_kept_on_this_bus(tmp_path: Path) -> None:
    (tmp_path / "acme-panel.yaml").write_text(FIRE)
    kept = iotcore("spec", "plan", str(tmp_path / "acme-panel.yaml"), "--loop", "1-2", cwd=tmp_path)
    assert kept.code == 0, kept.out
    assert "318 points, 4 requests" in kept.out
    assert "fire budget kept: acme-panel: poll interval 2 s + longest request in flight" in kept.out
    broken = iotcore("spec", "plan", str(tmp_path / "acme-panel.yaml"), "--baud", "1200", cwd=tmp_path)
    assert broken.code == 1
    assert "fire budget BROKEN, refused at start" in broken.out


def test_an_import_writes_a_draft_that_check_finds_sound_and_reports_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "telegraf.conf").write_text(
        '[[inputs.modbus]]\nname = "Tank"\nholding_registers = [\n'
        '  { name = "level", byte_order = "AB", data_type = "INT16", scale = 0.1, address = [4] },\n'
        '  { name = "odd", byte_order = "AB", data_type = "INT8L", scale = 1.0, address = [5] },\n]\n'
    )
    importing = (
        "spec",
        "import",
        "telegraf",
        "telegraf.conf",
        "--model",
        "acme-tank",
        "--vendor",
        "Acme",
        "--class",
        "water_station",
    )
    done = iotcore(*importing, "-o", "acme-tank.yaml", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "1 points carried over" in done.out
    assert "left out  inputs.modbus[0].holding_registers[1]: odd" in done.out
    assert iotcore("spec", "check", "acme-tank.yaml", cwd=tmp_path).out == "1 spec read, all sound\n"
    again = iotcore(*importing, "-o", "acme-tank.yaml", cwd=tmp_path)
    assert (again.code, "is there already" in again.err) == (1, True)
    shown = iotcore(*importing, cwd=tmp_path)
    assert shown.out == (tmp_path / "acme-tank.yaml").read_text()
    assert "left out" in shown.err
