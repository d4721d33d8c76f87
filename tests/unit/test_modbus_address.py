"""Connection strings of Modbus units: what each part means, and what is said of a wrong one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from iotcore.errors import ConfigError
from iotcore.registry import city
from iotcore.specs.model import Firmware
from iotcore.wire.modbus_address import Line, ModbusAddress, parse
from tests.support.shipped import SPECS


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp://10.0.0.5:1502?device_id=17", ModbusAddress(Line("tcp", "10.0.0.5", 1502), 17)),
        ("tcp://station.example", ModbusAddress(Line("tcp", "station.example", 502))),
        ("tcp://[::1]:502/?device_id=0", ModbusAddress(Line("tcp", "::1", 502), 0)),
        ("rtu+tcp://10.0.0.6:4001?device_id=247", ModbusAddress(Line("rtu+tcp", "10.0.0.6", 4001), 247)),
        (
            "rtu+tcp://h:1?baud=1200&parity=O&stop_bits=2",
            ModbusAddress(Line("rtu+tcp", "h", 1), baud=1200, parity="O", stop_bits=2),
        ),
        (
            "rtu:///dev/ttyS0?baud=9600&parity=E&stop_bits=1&device_id=3",
            ModbusAddress(Line("rtu", "/dev/ttyS0"), 3, 9600, "E", 1),
        ),
        ("rtu:///dev/serial/by-id/usb-1", ModbusAddress(Line("rtu", "/dev/serial/by-id/usb-1"))),
        ("tls://panel.example?device_id=2&identity=site-7", ModbusAddress(Line("tls", "panel.example", 802, "site-7"), 2)),
        (
            "tcp://h:1?firmware=2.1&loop=1-2&detector=7",
            ModbusAddress(Line("tcp", "h", 1), firmware="2.1", ranges=(("loop", (1, 2)), ("detector", (7, 7)))),
        ),
    ],
)
def test_what_a_connection_string_names(text: str, address: ModbusAddress) -> None:
    assert parse(text) == address


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "begins with none of"),
        ("udp://h:1", "begins with none of"),
        ("tcp://", "host is missing"),
        ("tcp://h:99999", "out of range"),
        ("tcp://h:0", "port is missing"),
        ("tcp://h/x", "'/x' after the host"),
        ("tcp://me@h", "user, password"),
        ("tcp://h:1?unit_id=1", "no parameter 'unit_id'"),
        ("tcp://h:1?unit=x", "no range of an index"),
        ("tcp://h:1?device_id=256", "device_id=256 is not 0 to 255"),
        ("tcp://h:1?device_id=", "device_id= is not"),
        ("tcp://h:1?device_id=1&device_id=2", "device_id stands twice"),
        ("tcp://h:1?baud=9600", "baud is for a serial line"),
        ("tcp://h:1?identity=a", "identity is for tls"),
        ("tcp://h:1?loop=2-1", "loop=2-1 is no parameter"),
        ("tcp://h:1?firmware=", "firmware= is not"),
        ("rtu+tcp://h", "port is missing"),
        ("rtu+tcp://h:1?device_id=0", "on a serial line 1 to 247"),
        ("rtu://dev/ttyS0", "after three slashes"),
        ("rtu:///", "serial device is missing"),
        ("rtu:///dev/ttyS0?baud=1", "baud=1 is not 300"),
        ("rtu:///dev/ttyS0?parity=e", "parity=e is not N, E or O"),
        ("rtu:///dev/ttyS0?stop_bits=3", "stop_bits=3 is not 1 or 2"),
        ("tls://h", "identity is missing"),
        ("tls://h?identity=../x", "is not a certificate name"),
    ],
)
def test_a_wrong_one_is_refused_and_says_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse(text)
    assert reason in str(refused.value)


def test_units_of_one_host_and_port_or_of_one_serial_port_share_a_line() -> None:
    assert parse("tcp://h:1?device_id=1").line == parse("tcp://h:1?device_id=2").line
    assert parse("rtu:///dev/ttyS0?device_id=1").line == parse("rtu:///dev/ttyS0?device_id=2&baud=9600").line
    assert parse("tls://h?identity=a").line != parse("tls://h?identity=b").line


@given(
    st.text(max_size=60)
    | st.text(max_size=40).map(lambda rest: f"tcp://{rest}")
    | st.text(max_size=40).map(lambda q: f"rtu:///d?{q}")
)
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = parse(text)
    except ValueError:
        return
    assert 0 <= address.device_id <= 255


def _refusals(model: str, connection: str) -> list[str]:
    document = {
        "premises": [
            {"id": "p", "name": "P", "address": "A", "latitude": 19.8, "longitude": 105.8, "account": "1001"},
        ],
        "devices": [
            {"id": "gw", "title": "G", "model": "iotcore-modbus-gateway"},
            {"id": "d", "title": "D", "model": model, "parent": "gw", "premises": "p", "connection": connection},
        ],
    }
    try:
        city.check(city.read(document), SPECS, city.Known())
    except ConfigError as error:
        return [f"{problem.path}: {problem.reason}" for problem in error.problems]
    return []


def test_the_registry_takes_what_fits_the_spec() -> None:
    assert _refusals("notifier-modbus-gw", "rtu:///dev/ttyS0?device_id=1&loop=1-2&detector=1-60") == []
    assert _refusals("vaisala-aqt530", "tls://h?identity=site-7&firmware=2.1") == []


@pytest.mark.parametrize(
    ("model", "connection", "reason"),
    [
        ("vaisala-aqt530", "", "begins with none of"),
        ("vaisala-aqt530", "tcp://h:1?device_id=256", "device_id=256"),
        ("vaisala-aqt530", "tcp://h:1?loop=1-2", "repeats nothing over 'loop'"),
        ("notifier-modbus-gw", "tcp://h:1?loop=1-11", "loop 1 to 11 is outside 1 to 10"),
        ("notifier-modbus-gw", "tcp://h:1?floor=1", "it knows: "),
    ],
)
def test_the_registry_refuses_what_does_not_and_says_why(model: str, connection: str, reason: str) -> None:
    (refusal,) = _refusals(model, connection)
    assert refusal.startswith("devices[1].connection: ")
    assert reason in refusal


def test_the_registry_refuses_a_firmware_that_the_spec_does_not_know() -> None:
    spec = replace(SPECS["vaisala-aqt530"], firmware=Firmware(base=("1.*",)))
    entry = city.DeviceEntry("d", "D", spec.model, parent="gw", connection="tcp://h:1?firmware=2.0")
    known = city.Known(devices={"gw": "iotcore-modbus-gateway"})
    with pytest.raises(ConfigError, match=r"firmware=2\.0: vaisala-aqt530 knows no such version"):
        city.check(city.City(devices=[entry]), SPECS | {spec.model: spec}, known)
