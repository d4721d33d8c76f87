"""Other platforms' Modbus files become drafts that load and read the same registers; what a spec cannot say is reported."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from iotcore.errors import ConfigError
from iotcore.specs import decode, load
from iotcore.specs.importers import edgex, telegraf, thingsboard
from iotcore.specs.importers.draft import Imported, Wanted, point_name
from iotcore.specs.model import Table

WANTED = Wanted("acme-1", "Acme", "water_station")
Read = Callable[[bytes, str, Wanted], Imported]
READERS: dict[str, Read] = {"telegraf": telegraf.read, "edgex": edgex.read, "thingsboard": thingsboard.read}
PRESSURE = 1013.25  # exact in binary32

TELEGRAF_REGISTER = b"""
[[inputs.modbus]]
  name = "Pump house"
  interval = "15s"
  slave_id = 3
  timeout = "750ms"
  controller = "tcp://10.0.0.7:502"
  baud_rate = 19200
  parity = "E"
  discrete_inputs = [{ name = "float switch", address = [4] }]
  coils = [{ name = "run", address = [0] }]
  holding_registers = [
    { name = "pressure", byte_order = "CDAB", data_type = "FLOAT32-IEEE", scale = 1.0, address = [100, 101] },
    { name = "level", byte_order = "AB", data_type = "FIXED", scale = 0.01, address = [2] },
    { name = "total", byte_order = "ABCD", data_type = "UFIXED", scale = 0.1, address = [3, 4] },
    { name = "low byte", byte_order = "BA", data_type = "UINT8L", scale = 1.0, address = [5] },
    { name = "signed byte", byte_order = "AB", data_type = "INT8H", scale = 1.0, address = [6] },
    { name = "level again", byte_order = "AB", data_type = "UINT16", scale = 1.0, address = [2] },
    { name = "scattered", byte_order = "ABCD", data_type = "INT32", scale = 1.0, address = [10, 12] },
  ]
  [inputs.modbus.workarounds]
    pause_between_requests = "20ms"
    max_word_registers_per_request = 60
    one_request_per_field = true
"""

TELEGRAF_REQUEST = b"""
[[inputs.modbus]]
  name = "Weather"
  configuration_type = "request"
  [[inputs.modbus.request]]
    slave_id = 1
    byte_order = "DCBA"
    register = "holding"
    optimization = "max_insert"
    optimization_max_register_fill = 12
    fields = [
      { address = 0, name = "pressure", type = "FLOAT32" },
      { address = 2, name = "spare", omit = true },
      { address = 3, name = "serial", type = "STRING", length = 4 },
      { address = 8, name = "count", type = "UINT64", output = "INT64" },
      { address = 12, name = "half", type = "FLOAT16" },
    ]
    [inputs.modbus.request.tags]
      site = "roof"
  [[inputs.modbus.request]]
    slave_id = 2
    register = "coil"
    fields = [{ address = 9, name = "heater" }]
"""

TELEGRAF_METRIC = b"""
[[inputs.modbus]]
  name = "Weather"
  configuration_type = "metric"
  [[inputs.modbus.metric]]
    slave_id = 1
    fields = [
      { register = "discrete", address = 3, name = "door" },
      { register = "input", address = 7, name = "rain", type = "BIT", bit = 5 },
      { address = 9, name = "wind", type = "UINT16", scale = 0.1 },
    ]
"""

EDGEX = """
name: Room-Profile
manufacturer: Acme
model: Roomy
deviceResources:
  - name: SwitchA
    attributes: { primaryTable: COILS, startingAddress: 0 }
    properties: { valueType: Bool, readWrite: RW }
  - name: CommunicationFailure
    attributes: { primaryTable: HOLDING_REGISTERS, startingAddress: 10.10 }
    properties: { valueType: Bool, readWrite: R }
  - name: FifthBit
    attributes: { primaryTable: HOLDING_REGISTERS, startingAddress: "10.5" }
    properties: { valueType: Bool, readWrite: R }
  - name: RoomTemperature
    attributes: { primaryTable: INPUT_REGISTERS, startingAddress: 3, rawType: Int16 }
    properties: { valueType: Float32, readWrite: R, scale: 0.1, offset: -40, units: °C, minimum: -20, maximum: 60 }
  - name: Pressure
    attributes: { primaryTable: INPUT_REGISTERS, startingAddress: "7", isByteSwap: true, isWordSwap: "true" }
    properties: { valueType: Float32, readWrite: R }
  - name: Total
    attributes: { primaryTable: INPUT_REGISTERS, startingAddress: 20, isWordSwap: true }
    properties: { valueType: Uint64, readWrite: R }
  - name: Field
    attributes: { primaryTable: HOLDING_REGISTERS, startingAddress: 30 }
    properties: { valueType: Uint16, readWrite: R, mask: 240 }
  - name: Setpoint
    attributes: { primaryTable: HOLDING_REGISTERS, startingAddress: 31 }
    properties: { valueType: Int16, readWrite: W }
  - name: Crooked
    attributes: { primaryTable: HOLDING_REGISTERS, startingAddress: 32.5 }
    properties: { valueType: Int16, readWrite: R }
deviceCommands:
  - name: Values
""".encode()

SLAVE: dict[str, Any] = {
    "host": "10.0.0.9", "port": 502, "type": "tcp", "method": "socket", "unitId": 4, "deviceName": "Tank", "pollPeriod": 5000,
    "timeout": 3, "byteOrder": "BIG", "wordOrder": "LITTLE",
    "timeseries": [
        {"tag": "pressure", "type": "32float", "functionCode": 4, "objectsCount": 2, "address": 0},
        {"tag": "level", "type": "16int", "functionCode": 3, "objectsCount": 1, "address": 8, "divider": 10},
        {"tag": "total", "type": "uint", "functionCode": 3, "objectsCount": 4, "address": 12, "multiplier": 0.5},
        {"tag": "pump", "type": "bits", "functionCode": 1, "objectsCount": 1, "address": 5},
        {"tag": "mode", "type": "16uint", "functionCode": 3, "address": 60, "variants": {"0": "off", "1": "on"}},
        {"tag": "cell", "type": "16uint", "functionCode": 3, "address": "70-72", "tagOverrides": {"71": "middle cell"}},
        {"tag": "bits", "type": "bits", "functionCode": 3, "objectsCount": 1, "address": 50},
        {"tag": "both", "type": "16int", "functionCode": 3, "address": 51, "divider": 10, "multiplier": 2},
    ],
    "attributes": [{"tag": "serial", "type": "string", "functionCode": 3, "objectsCount": 4, "address": 30}],
    "rpc": [{"tag": "set", "type": "bits", "functionCode": 5, "address": 31}],
}  # fmt: skip


def thingsboard_file(*slaves: dict[str, Any]) -> bytes:
    return json.dumps({"master": {"slaves": list(slaves or (SLAVE,))}}).encode()


def words(content: bytes, order: str) -> list[int]:
    """The registers in which the bytes A B C D … of a number arrive in this order."""
    pairs = [content[i : i + 2] for i in range(0, len(content), 2)]
    pairs = pairs[::-1] if order in ("CDAB", "DCBA") else pairs
    return [int.from_bytes(pair[::-1] if order in ("BADC", "DCBA") else pair, "big") for pair in pairs]


def values(imported: Imported, at: dict[tuple[Table, int], list[int]]) -> dict[str, Any]:
    """What the draft reads from these registers; points whose registers are not given are left out."""
    image = {(table, address + i): word for (table, address), run in at.items() for i, word in enumerate(run)}
    return {value.point: value.value for value in decode.values(imported.spec, image) if value.quality.name == "GOOD"}


def left_out(imported: Imported) -> dict[str, str]:
    return {note.what: note.why for note in imported.report.left_out}


def checks(imported: Imported) -> dict[str, str]:
    return {note.what: note.why for note in imported.report.check}


def test_telegraf_registers_are_read_as_telegraf_reads_them() -> None:
    found = telegraf.read(TELEGRAF_REGISTER, "pump.conf", WANTED)
    assert values(found, {
        ("discrete", 4): [1],
        ("coil", 0): [0],
        ("holding", 100): words(struct.pack(">f", PRESSURE), "CDAB"),
        ("holding", 2): words(struct.pack(">h", -250), "ABCD"),
        ("holding", 3): words(struct.pack(">I", 4_000_000_001), "ABCD"),
        ("holding", 5): [0x1234],
    }) == {
        "float_switch": True, "run": False, "pressure": PRESSURE, "level": -2.5, "total": 400_000_000.1, "low_byte": 0x12,
    }  # fmt: skip


def test_telegraf_limits_of_the_unit_are_carried_over() -> None:
    found = telegraf.read(TELEGRAF_REGISTER, "pump.conf", WANTED)
    limits = found.spec.modbus
    assert limits is not None
    assert (limits.timeout_s, limits.min_gap_ms, limits.max_registers, limits.max_hole) == (0.75, 20, 60, 0)
    assert (limits.baud, limits.parity, found.spec.interval_s, found.spec.title) == (19200, "E", 15.0, "Pump house")


def test_what_telegraf_says_and_a_spec_cannot_is_reported_with_its_place_and_reason() -> None:
    found = telegraf.read(TELEGRAF_REGISTER, "pump.conf", WANTED)
    lost = left_out(found)
    assert "signed byte" in lost["signed byte"]
    assert "follow each other" in lost["scattered"]
    assert lost["level_again"] == "holding 2 is taken by points.level.modbus"
    assert "test the unit without it" in lost["one_request_per_field"]
    assert "connection" in lost["controller"]
    assert {note.where for note in found.report.left_out} >= {"inputs.modbus[0].holding_registers[4]", "inputs.modbus[0]"}


def test_telegraf_requests_keep_their_order_and_their_holes() -> None:
    found = telegraf.read(TELEGRAF_REQUEST, "weather.conf", Wanted("acme-1", "Acme", "air_station", unit="1"))
    assert values(found, {
        ("holding", 0): words(struct.pack(">f", PRESSURE), "DCBA"),
        ("holding", 3): words(b"AB12\0\0\0\0", "BADC"),
        ("holding", 8): words(struct.pack(">Q", 2**40 + 7), "DCBA"),
    }) == {"pressure": PRESSURE, "serial": "AB12", "count": 2.0**40 + 7}  # fmt: skip
    assert found.spec.modbus is not None
    assert found.spec.modbus.max_hole == 12
    assert "FLOAT16" in left_out(found)["half"]
    assert "tags" in left_out(found)
    assert "spare" not in found.text
    assert "fraction" in checks(found)["count"]


def test_telegraf_with_two_units_asks_which_and_names_them() -> None:
    with pytest.raises(ConfigError, match=r"--unit; there are: 'Weather/1', 'Weather/2'"):
        telegraf.read(TELEGRAF_REQUEST, "weather.conf", WANTED)
    with pytest.raises(ConfigError, match=r"no unit '9'; there are: 'Weather/1', 'Weather/2'"):
        telegraf.read(TELEGRAF_REQUEST, "weather.conf", Wanted("acme-1", "Acme", "air_station", unit="9"))
    other = telegraf.read(TELEGRAF_REQUEST, "weather.conf", Wanted("acme-1", "Acme", "air_station", unit="Weather/2"))
    assert list(other.spec.points) == ["heater"]
    assert "the other units" in left_out(other)


def test_telegraf_metrics_name_their_register_field_by_field() -> None:
    found = telegraf.read(TELEGRAF_METRIC, "weather.conf", WANTED)
    image: dict[tuple[Table, int], list[int]] = {("discrete", 3): [1], ("input", 7): [1 << 5], ("holding", 9): [123]}
    assert values(found, image) == {"door": True, "rain": True, "wind": 12.3}


def test_an_edgex_profile_is_read_as_device_modbus_reads_it() -> None:
    found = edgex.read(EDGEX, "room.yaml", WANTED)
    assert values(found, {
        ("coil", 0): [1],
        ("holding", 10): [1 << 10],
        ("input", 3): [650],
        ("input", 7): words(struct.pack(">f", PRESSURE), "DCBA"),
        ("input", 20): words(struct.pack(">Q", 2**50), "ABCD"),
        ("holding", 30): [0xABCD],
    }) == {
        "switch_a": True, "communication_failure": True, "fifth_bit": False, "room_temperature": 25.0, "pressure": PRESSURE,
        "total": 2.0**50, "field": float(0xABCD & 240),
    }  # fmt: skip
    temperature = found.spec.points["room_temperature"]
    assert (temperature.unit, temperature.range) == ("°C", (-20.0, 60.0))


def test_edgex_float_addresses_are_pointed_out_and_crooked_ones_left_out() -> None:
    found = edgex.read(EDGEX, "room.yaml", WANTED)
    assert checks(found)["CommunicationFailure"].endswith("register 10, bit 10")
    assert checks(found)["FifthBit"].endswith("register 10, bit 5")
    assert "ignores isByteSwap" in checks(found)["Total"]
    lost = left_out(found)
    assert lost["Crooked"] == "startingAddress 32.5 is no whole number"
    assert "safety class" in lost["Setpoint"]
    assert "safety class" in lost["SwitchA"]
    assert "safety class" in lost["deviceCommands"]


def test_a_thingsboard_unit_is_read_as_its_gateway_reads_it() -> None:
    found = thingsboard.read(thingsboard_file(), "modbus.json", WANTED)
    assert values(found, {
        ("input", 0): words(struct.pack(">f", PRESSURE), "CDAB"),
        ("holding", 8): words(struct.pack(">h", -231), "CDAB"),
        ("holding", 12): words(struct.pack(">Q", 9), "CDAB"),
        ("coil", 5): [1],
        ("holding", 60): [1],
        ("holding", 70): [7, 8, 9],
        ("holding", 30): words(b"SN-00042", "ABCD"),
    }) == {
        "pressure": PRESSURE, "level": -23.1, "total": 4.5, "pump": True, "mode": "on", "cell_70": 7.0, "middle_cell": 8.0,
        "cell_72": 9.0, "serial": "SN-00042",
    }  # fmt: skip
    assert found.spec.interval_s == 5.0
    lost = left_out(found)
    assert "differently" in lost["bits"]
    assert "divider and a multiplier" in lost["both"]
    assert "safety class" in lost["set"]


@pytest.mark.parametrize(
    ("byte_order", "word_order", "order"),
    [("BIG", "BIG", "ABCD"), ("LITTLE", "BIG", "BADC"), ("BIG", "LITTLE", "CDAB"), (None, None, "DCBA")],
)
def test_thingsboard_orders(byte_order: str | None, word_order: str | None, order: str) -> None:
    slave = {**SLAVE, "byteOrder": byte_order, "wordOrder": word_order, "timeseries": SLAVE["timeseries"][:1]}
    found = thingsboard.read(thingsboard_file(slave), "modbus.json", WANTED)
    assert values(found, {("input", 0): words(struct.pack(">f", PRESSURE), order)})["pressure"] == PRESSURE


def test_thingsboard_with_two_units_takes_the_one_that_is_named() -> None:
    two = thingsboard_file(SLAVE, {**SLAVE, "deviceName": "Well", "timeseries": SLAVE["timeseries"][:2]})
    with pytest.raises(ConfigError, match="'Tank/4', 'Well/4'"):
        thingsboard.read(two, "modbus.json", WANTED)
    found = thingsboard.read(two, "modbus.json", Wanted("acme-1", "Acme", "water_station", unit="Well"))
    assert list(found.spec.points) == ["pressure", "level", "serial"]


def test_thingsboard_s_older_form_and_its_api_s_wrapping_are_known() -> None:
    old = {"server": {"byteOrder": "BIG", "wordOrder": "BIG", "devices": [{**SLAVE, "byteOrder": None, "wordOrder": None}]}}
    assert thingsboard.read(json.dumps(old).encode(), "old.json", WANTED).report.points == 9
    wrapped = {"Modbus": {"type": "modbus", "configurationJson": {"name": "Modbus", "master": {"slaves": [SLAVE]}}}}
    assert thingsboard.read(json.dumps(wrapped).encode(), "new.json", WANTED).report.points == 9


@pytest.mark.parametrize(
    ("read", "content"),
    [(telegraf.read, TELEGRAF_METRIC), (edgex.read, EDGEX), (thingsboard.read, thingsboard_file())],
    ids=READERS,
)
def test_a_draft_says_that_it_is_one_and_loads_from_its_text(read: Read, content: bytes) -> None:
    found = read(content, "theirs.txt", WANTED)
    assert msgspec.to_builtins(load.parse(found.text.encode(), "acme-1.yaml")) == msgspec.to_builtins(found.spec)
    assert found.spec.source.startswith("imported from theirs.txt")
    assert "Not tried on a unit" in found.spec.verified
    assert len(found.spec.points) == found.report.points
    assert found.report.lines()[0].startswith(f"{found.report.points} points carried over")


@pytest.mark.parametrize(
    ("read", "content", "said"),
    [
        (telegraf.read, b"not = [toml", "is not TOML"),
        (telegraf.read, b"[agent]\n", "holds no inputs.modbus"),
        (telegraf.read, b"\xff", "is not TOML"),
        (telegraf.read, b"x = 0x" + b"F" * 6000, "holds a whole number of 24000 bits"),
        (edgex.read, b"a: &x 1\nb: *x\n", "aliases are not allowed"),
        (edgex.read, b"name: x\n", "no deviceResources"),
        (thingsboard.read, b"{", "is not JSON"),
        (thingsboard.read, b"[" * 100_000, "nested too deeply"),
        (thingsboard.read, b"{}", "holds no units in master.slaves"),
    ],
)
def test_what_is_no_such_file_is_refused_in_one_line(read: Read, content: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(content, "f", WANTED)


def test_a_file_of_which_nothing_can_be_carried_over_is_refused_with_every_reason() -> None:
    slave = {**SLAVE, "timeseries": SLAVE["timeseries"][-2:], "attributes": []}
    with pytest.raises(ConfigError) as caught:
        thingsboard.read(thingsboard_file(slave), "modbus.json", WANTED)
    text = str(caught.value)
    assert "timeseries[0]: bits: " in text
    assert "timeseries[1]: both: " in text
    assert "holds no point that could be carried over" in text


def test_a_wanted_model_that_is_none_is_refused_by_the_loader() -> None:
    with pytest.raises(ConfigError, match="model"):
        telegraf.read(TELEGRAF_METRIC, "weather.conf", Wanted("Acme 1!", "Acme", "water_station"))


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("Động cơ 1 (RPM)", "dong_co_1_rpm"),
        ("roomTemp", "room_temp"),
        ("2nd pump", "p_2nd_pump"),
        ("流量", "p"),
        ("a" * 60, "a" * 40),
    ],
)
def test_names_stay_near_those_of_the_file(said: str, name: str) -> None:
    assert point_name(said) == name
