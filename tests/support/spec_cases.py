"""A case of tests/cases, read and played: what the device sent, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drivers.mqtt import canonical
from iotcore.errors import Refused
from iotcore.reading import Quality, Value
from iotcore.registry.directory import Binding, Directory
from iotcore.specs import decode, firmware, payload, plan, repeat, yaml12
from iotcore.specs.model import DeviceSpec, Table
from iotcore.wire.arrival import Arrival, Decoded
from iotcore.wire.topics import DOMAIN_OF_CLASS, up

CASES = Path(__file__).parents[1] / "cases"
FILES = sorted(CASES.glob("*/*.yaml"))
NOW_MS = 1_795_312_801_000.0
TABLE_OF_FUNCTION: dict[int, Table] = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}  # Modbus 1.1b3, §6
EXCEPTION = 0x80  # Modbus 1.1b3, §7
KEYS = {
    "request",
    "response",
    "exchanges",
    "registers",
    "fill",
    "firmware",
    "fitted",
    "only",
    "payload",
    "hex",
    "kind",
    "refusals",
}
KEYS |= {"presence", "test", "ts", "expect"}
Words = dict[tuple[Table, int], int]


def read(path: Path) -> dict[str, Any]:
    case: dict[str, Any] = yaml12.parse(path.read_text(encoding="utf-8"))
    assert set(case) <= KEYS, f"{path}: {sorted(set(case) - KEYS)}"
    return case


def of_model(model: str) -> list[dict[str, Any]]:
    return [read(path) for path in FILES if path.parent.name == model]


def expected(points: Mapping[str, Any]) -> tuple[Value, ...]:
    return tuple(
        Value(name, said[0], Quality(said[1]), said[2]) if isinstance(said, list) else Value(name, said)
        for name, said in points.items()
    )


def expectations(case: Mapping[str, Any]) -> list[dict[str, Any]]:
    expect = case.get("expect", {})
    return expect if isinstance(expect, list) else [expect]


def layout(spec: DeviceSpec, case: Mapping[str, Any]) -> DeviceSpec | None:
    """The spec as the case's unit has it; None when its firmware is unknown."""
    spec = repeat.narrow(spec, {index: (first, last) for index, (first, last) in case.get("fitted", {}).items()})
    return firmware.layout(spec, case["firmware"]) if "firmware" in case else spec


def modbus(spec: DeviceSpec, case: Mapping[str, Any]) -> tuple[Value, ...]:
    """Every point of a unit that answered as the case says."""
    found = layout(spec, case)
    if found is None:
        return firmware.refused(spec)
    words: Words = {}
    failures: dict[str, str] = {}
    if "registers" in case:
        words = _image(found, case)
    for each in case.get("exchanges", [case] if "request" in case else []):
        _exchange(found, bytes.fromhex(each["request"]), bytes.fromhex(each["response"]), words, failures)
    return decode.values(found, words, failures)


def _image(spec: DeviceSpec, case: Mapping[str, Any]) -> Words:
    fill = int(case.get("fill", "0000"), 16)
    words = {(each.table, each.address + i): fill for each in plan.requests(spec) for i in range(each.count)}
    for table, runs in case["registers"].items():
        for first, run in runs.items():
            for i, word in enumerate(run.split()):
                assert (table, int(first) + i) in words, f"{table} {int(first) + i} is never read"
                words[table, int(first) + i] = int(word, 16)
    return words


def _exchange(spec: DeviceSpec, request: bytes, response: bytes, words: Words, failures: dict[str, str]) -> None:
    """A read, whose request must be one of the plan's."""
    table = TABLE_OF_FUNCTION[request[0]]
    address, count = int.from_bytes(request[1:3], "big"), int.from_bytes(request[3:5], "big")
    planned = {(each.table, each.address, each.count): each for each in plan.requests(spec)}
    assert (table, address, count) in planned, f"{table} {address} × {count} is not planned; {list(planned)} are"
    if response[0] == request[0] | EXCEPTION:
        failures.update(dict.fromkeys(planned[table, address, count].points, f"exception:{response[1]}"))
        return
    assert response[0] == request[0]
    content = response[2:]
    assert response[1] == len(content)
    if table in ("coil", "discrete"):
        assert len(content) == (count + 7) // 8
        words.update(((table, address + i), content[i // 8] >> i % 8 & 1) for i in range(count))
    else:
        assert len(content) == 2 * count
        words.update(((table, address + i), int.from_bytes(content[2 * i : 2 * i + 2], "big")) for i in range(count))


def published(spec: DeviceSpec, kind: str, content: bytes) -> Decoded:
    """What a message of a device that speaks the wire contract becomes."""
    domain = DOMAIN_OF_CLASS[spec.device_class]
    directory = Directory(devices={"d1": Binding("d1", "Device", spec, domain, "d1", "active")})
    return canonical.decode(Arrival(up(domain, "d1", kind, "d1"), content, retained=False, received_ms=NOW_MS), directory, NOW_MS)


def vendor(spec: DeviceSpec, case: Mapping[str, Any]) -> payload.Payload | str:
    """What a vendor's payload tells, or the reason for which it is refused."""
    try:
        return payload.decode(spec, sent(case))
    except Refused as refused:
        return refused.reason


def sent(case: Mapping[str, Any]) -> bytes:
    return bytes.fromhex(case["hex"]) if "hex" in case else case["payload"].encode()
