"""Connection strings of Modbus units: where a unit is, and what its line is like.

tcp://10.0.0.7:502?device_id=1                              Modbus/TCP
rtu+tcp://10.0.0.7:4001?device_id=1                         RTU frames through a serial server
rtu:///dev/ttyS0?baud=9600&parity=E&stop_bits=1&device_id=1 a serial port of this machine
tls://10.0.0.7:802?device_id=1&identity=NAME                Modbus Security, with the client certificate NAME

On any of them: `firmware=2.1` for a unit that cannot tell its version, and `loop=1-2` to narrow a repeat of its spec to what
is fitted. Units with the same `line` share one connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast
from urllib.parse import parse_qsl, urlsplit

Scheme = Literal["tcp", "rtu+tcp", "rtu", "tls"]
Parity = Literal["N", "E", "O"]
DEFAULT_PORTS: dict[str, int] = {"tcp": 502, "tls": 802}  # Messaging on TCP/IP 1.0b, §3.1.3; Modbus/TCP Security, §6
LAST_PORT = 65_535
LAST_DEVICE_ID = 255  # on TCP; 255 and 0 mean the unit itself there
LAST_SERIAL_DEVICE_ID = 247  # Modbus over Serial Line 1.02, §2.2; 0 is the broadcast, which nobody answers
BAUDS = (300, 921_600)
LONGEST_FIRMWARE = 64  # characters, as on the wire
FORMS: dict[str, str] = {
    "tcp": "tcp://host:port?device_id=1",
    "rtu+tcp": "rtu+tcp://host:port?device_id=1",
    "rtu": "rtu:///dev/ttyS0?baud=9600&parity=E&stop_bits=1&device_id=1",
    "tls": "tls://host:802?device_id=1&identity=NAME",
}
SERIAL_KEYS = frozenset({"baud", "parity", "stop_bits"})
INDEX = re.compile(r"[a-z]{1,12}\Z")  # as an index of a spec's repeat
RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?\Z")
IDENTITY = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")  # as a certificate name


class Line(NamedTuple):
    """What units share: one connection. `host` is the device of a serial line; `identity` the certificate of a TLS one."""

    scheme: Scheme
    host: str
    port: int = 0
    identity: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}" if self.port else f"{self.scheme}://{self.host}"


@dataclass(frozen=True, slots=True)
class ModbusAddress:
    """Where a unit is. Serial settings that are None are those of its spec; `ranges` narrow its spec's repeats."""

    line: Line
    device_id: int = 1
    baud: int | None = None
    parity: Parity | None = None
    stop_bits: Literal[1, 2] | None = None
    firmware: str = ""
    ranges: tuple[tuple[str, tuple[int, int]], ...] = ()

    @property
    def is_rtu(self) -> bool:
        """Whether a serial line is on the way: no transaction ids, one frame after the other at a baud rate."""
        return self.line.scheme in {"rtu", "rtu+tcp"}


def parse(connection: str) -> ModbusAddress:
    """The address that a connection string names.

    Raises:
        ValueError: saying what is wrong with it and how it is written.
    """
    try:
        parts = urlsplit(connection)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{connection!r}: {error}; it is written like {FORMS['tcp']}") from error
    if parts.scheme not in FORMS:
        raise ValueError(f"{connection!r} begins with none of {', '.join(f'{scheme}://' for scheme in FORMS)}")
    scheme = cast(Scheme, parts.scheme)
    problems = [*_where(scheme, parts.hostname, port, parts.path, extra=bool(parts.fragment or parts.username or parts.password))]
    keys = [key for key, _ in pairs]
    problems += [f"{key} stands twice" for key in sorted(set(keys)) if keys.count(key) > 1]
    values = dict(pairs)
    problems += [reason for key, value in values.items() if (reason := _wrong(scheme, key, value))]
    if scheme == "tls" and "identity" not in values:
        problems.append("identity is missing: the name of the client certificate")
    if problems:
        raise ValueError(f"{connection!r}: {'; '.join(problems)}; it is written like {FORMS[scheme]}")
    host = parts.path if scheme == "rtu" else parts.hostname or ""
    line = Line(scheme, host, 0 if scheme == "rtu" else port or DEFAULT_PORTS[scheme], values.get("identity", ""))
    return _address(line, values)


def _address(line: Line, values: dict[str, str]) -> ModbusAddress:
    """From parameters that were found right."""
    ranges = tuple((key, span) for key, value in values.items() if key not in KEYS and (span := _range(value)))
    return ModbusAddress(
        line,
        device_id=int(values.get("device_id", "1")),
        baud=int(values["baud"]) if "baud" in values else None,
        parity=cast(Parity, values["parity"]) if "parity" in values else None,
        stop_bits=cast(Literal[1, 2], int(values["stop_bits"])) if "stop_bits" in values else None,
        firmware=values.get("firmware", ""),
        ranges=ranges,
    )


def _where(scheme: Scheme, host: str | None, port: int | None, path: str, *, extra: bool) -> list[str]:
    found = []
    if scheme == "rtu":
        if host or port is not None:
            found.append("a serial device stands after three slashes")
        if len(path) < 2 or path.endswith("/"):  # noqa: PLR2004 - more than the slash
            found.append("the serial device is missing")
    else:
        if not host:
            found.append("the host is missing")
        if path not in {"", "/"}:
            found.append(f"{path!r} after the host means nothing")
        if port == 0 or (port is None and scheme not in DEFAULT_PORTS):
            found.append(f"the port is missing (1 to {LAST_PORT})")
    if extra:
        found.append("user, password and # mean nothing")
    return found


def _wrong(scheme: Scheme, key: str, value: str) -> str:
    """What is wrong with one parameter; "" when nothing is."""
    if key in SERIAL_KEYS and scheme not in {"rtu", "rtu+tcp"}:
        return f"{key} is for a serial line"
    if key == "identity" and scheme != "tls":
        return "identity is for tls:// only"
    if key in KEYS:
        return "" if _right(scheme, key, value) else f"{key}={value} is not {KEYS[key]}"
    if not INDEX.match(key):
        return f"no parameter {key!r}"
    return "" if _range(value) else f"{key}={value} is no parameter, and no range of an index such as {key}=1-2"


KEYS = {
    "device_id": f"0 to {LAST_DEVICE_ID}, on a serial line 1 to {LAST_SERIAL_DEVICE_ID}",
    "baud": f"{BAUDS[0]} to {BAUDS[1]}",
    "parity": "N, E or O",
    "stop_bits": "1 or 2",
    "identity": "a certificate name (letters, digits, - and _)",
    "firmware": f"a version of 1 to {LONGEST_FIRMWARE} characters",
}


def _right(scheme: Scheme, key: str, value: str) -> bool:
    match key:
        case "device_id":
            first, last = (1, LAST_SERIAL_DEVICE_ID) if scheme in {"rtu", "rtu+tcp"} else (0, LAST_DEVICE_ID)
            return _is_number(value) and first <= int(value) <= last
        case "baud":
            return _is_number(value) and BAUDS[0] <= int(value) <= BAUDS[1]
        case "parity":
            return value in {"N", "E", "O"}
        case "stop_bits":
            return value in {"1", "2"}
        case "identity":
            return bool(IDENTITY.match(value))
        case _:
            return 0 < len(value) <= LONGEST_FIRMWARE and value.isprintable()


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdecimal() and len(value) <= 6  # noqa: PLR2004 - digits of the largest baud rate


def _range(value: str) -> tuple[int, int] | None:
    found = RANGE.match(value)
    if found is None:
        return None
    first, last = int(found[1]), int(found[2] or found[1])
    return (first, last) if first <= last else None
