"""A technician in front of a Modbus unit: its values by its spec, its bare registers, the byte order that makes sense of them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from iotcore.commands.modbus_asking import Asker, How, Words, address_of, asking, remedy
from iotcore.errors import IotError, StartError
from iotcore.reading import Quality, Scalar, Value
from iotcore.specs import decode, firmware, plan, raw, repeat
from iotcore.specs.model import ByteOrder, DeviceSpec, Point, RawType, Table
from iotcore.specs.plan import Request
from iotcore.specs.sniff import Candidate, Hint, Sniffed, Verdict, sniff

FIRST_NUMBER: dict[Table, int] = {"coil": 1, "discrete": 10_001, "input": 30_001, "holding": 40_001}  # as documents count
MOST_REGISTERS, MOST_BITS = 125, 2000  # in one request; Modbus Application Protocol 1.1b3, §6.1 and §6.3
LAST_ADDRESS = 65_535
PASS_ON = {
    Verdict.SEVERAL: "Say what the unit's display shows: --near 1013, or --range 0,14.",
    Verdict.NONE: "Another address or type? Documents often count from 1, Modbus from 0: try one less.",
    Verdict.ALIKE: "Wait until the value is another one: not 0, and not the same byte over and over.",
    Verdict.EMPTY: "Wait until the sensor has a value, or say what it shows: --near 7.2.",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Bare values to read: `count` of them, of one type, from the 0-based `address` on."""

    table: Table
    address: int
    count: int = 1
    kind: RawType = "uint16"
    order: ByteOrder = "ABCD"

    @property
    def width(self) -> int:
        """Words of one value; a text is all of them."""
        if self.table in raw.BIT_TABLES:
            return 1
        return self.count if self.kind == "string" else raw.WORDS[self.kind]

    @property
    def words(self) -> int:
        """Words of all values."""
        return self.count if self.kind == "string" else self.count * self.width


async def read_model(connection: str, spec: DeviceSpec, how: How) -> int:
    """Every point of a unit, as its spec and its firmware have them; 1 when something was not read."""
    address = address_of(connection)
    try:
        spec = repeat.narrow(spec, dict(address.ranges))
    except ValueError as error:
        raise StartError(str(error), "Give a range of an index that the spec repeats over.") from error
    words: Words = {}
    failures: dict[str, str] = {}
    async with asking(address, how, spec) as asker:
        layout, version, why = await layout_of(asker, spec, address.firmware, words)
        for request in plan.requests(layout) if layout is not None else ():
            if said := await asker.into(request, words):
                failures |= {point: failures.get(point, said) for point in request.points}
    values = firmware.refused(spec) if layout is None else decode.values(layout, words, failures)
    _show_points(layout or spec, values, words, version, how.output)
    for each in sorted({*failures.values(), *([why] if why else [])}):
        sys.stderr.write(f"iotcore: {each}: {remedy(each)}\n")
    if layout is None and not why:
        sys.stderr.write(f"iotcore: the spec does not know firmware {version or '(untold)'}, so nothing is decoded\n")
    return 0 if layout is not None and not failures else 1


async def read_raw(connection: str, wanted: Wanted, how: How) -> int:
    """Registers as they are, with their numbers in both notations."""
    words: Words = {}
    async with asking(address_of(connection), how) as asker:
        await _all(asker, wanted, words)
    rows = list(_raw_rows(wanted, words))
    if how.output == "json":
        _say(json.dumps(rows, ensure_ascii=False, indent=2))
        return 0
    for row in rows:
        shown = _shown(row["value"], single=wanted.kind == "float32")
        _say(f"{row['table']} {row['address']:<6} ({row['number']})  {row['words']:<20} {shown}".rstrip())
    return 0


async def sniff_order(connection: str, wanted: Wanted, hint: Hint | None, samples: tuple[int, float], how: How) -> int:
    """Read a value (how often, seconds apart) and say in which byte order it makes sense; 1 when there is nothing to suggest."""
    taken = []
    async with asking(address_of(connection), how) as asker:
        for number in range(samples[0]):
            if number:
                await asyncio.sleep(samples[1])
            words: Words = {}
            await _all(asker, wanted, words)
            taken.append([words[wanted.table, wanted.address + i] for i in range(wanted.width)])
    found = sniff(wanted.kind, taken, hint)
    _say("\n".join(_sniffed(found, wanted, taken)))
    return 0 if found.order is not None else 1


async def layout_of(asker: Asker, spec: DeviceSpec, said: str, words: Words) -> tuple[DeviceSpec | None, str, str]:
    """The spec as the unit's firmware has it, the version, and why the version was not told."""
    request = plan.version_request(spec)
    if said or request is None:
        return firmware.layout(spec, said), said, ""
    if why := await asker.into(request, words):
        return None, "", why
    version = firmware.version(spec, words) or ""
    return (firmware.layout(spec, version) if version else None), version, ""


async def _all(asker: Asker, wanted: Wanted, words: Words) -> None:
    """Read everything that is wanted. Raises IotError with what to do."""
    if wanted.address + wanted.words - 1 > LAST_ADDRESS:
        raise StartError(f"{wanted.table} {wanted.address} and {wanted.words - 1} more", f"The last address is {LAST_ADDRESS}.")
    most = MOST_BITS if wanted.table in raw.BIT_TABLES else MOST_REGISTERS
    end = wanted.address + wanted.words
    for first in range(wanted.address, end, most):
        if why := await asker.into(Request(wanted.table, first, min(most, end - first), ()), words):
            raise IotError(f"{wanted.table} {first}: {why}: {remedy(why)}")


def _show_points(spec: DeviceSpec, values: tuple[Value, ...], words: Words, version: str, output: str) -> None:
    rows = [_point_row(spec.points[value.point], value, words) for value in values]
    if output == "json":
        _say(json.dumps({"model": spec.model, "firmware": version, "points": rows}, ensure_ascii=False, indent=2))
        return
    _say(spec.title + (f", firmware {version}" if version else ""))
    wide = max((len(value.point) for value in values), default=0)
    for row in rows:
        said = f"{_shown(row['value'], single=row['type'] == 'float32')} {row['unit']}".strip()
        quality = "" if row["quality"] == Quality.GOOD.value else f"{row['quality']}:{row['why']}".rstrip(":")
        _say(f"  {row['point']:<{wide}}  {said:<16} {quality:<26} {row['words']}".rstrip())


def _point_row(point: Point, value: Value, words: Words) -> dict[str, Any]:
    wire = point.modbus
    own = [words.get((wire.table, wire.address + i)) for i in range(raw.width(wire))] if wire is not None else []
    return {
        "point": value.point,
        "value": _plain(value.value),
        "unit": point.unit,
        "quality": value.quality.value,
        "why": value.why,
        "table": wire.table if wire is not None else "",
        "address": wire.address if wire is not None else None,
        "type": wire.type if wire is not None else "",
        "words": " ".join("----" if word is None else f"{word:04X}" for word in own),
    }


def _raw_rows(wanted: Wanted, words: Words) -> Iterator[dict[str, Any]]:
    for first in range(wanted.address, wanted.address + wanted.words, wanted.width):
        own = [words[wanted.table, first + i] for i in range(wanted.width)]
        value: Scalar | None
        if wanted.table in raw.BIT_TABLES:
            value = bool(own[0])
        elif wanted.kind == "string":
            value = raw.text(own, wanted.order)
        else:
            value = raw.number(wanted.kind, own, wanted.order)
        yield {
            "table": wanted.table,
            "address": first,
            "number": FIRST_NUMBER[wanted.table] + first,
            "words": " ".join(f"{word:04X}" for word in own),
            "value": _plain(value),
        }


def _sniffed(found: Sniffed, wanted: Wanted, taken: list[list[int]]) -> Iterator[str]:
    yield f"{wanted.table} {wanted.address} as {wanted.kind}, {len(taken)} samples; the last: " + " ".join(
        f"{w:04X}" for w in taken[-1]
    )
    for candidate in found.candidates:
        yield f"  {' or '.join(candidate.orders):<20} {_span(candidate):<30} {_against(candidate)}"
    if found.order is not None:
        yield f"byte_order: {found.order}: it is the only order in which the value is plausible and steady"
    else:
        yield f"no suggestion: {found.verdict.value}. {PASS_ON[found.verdict]}"


def _span(candidate: Candidate) -> str:
    low, high = min(candidate.values), max(candidate.values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _against(candidate: Candidate) -> str:
    return "fits" if not candidate.faults else ", ".join(fault.value for fault in candidate.faults)


def _plain(value: Scalar | None) -> Scalar | None:
    """A value as JSON can say it: it knows no NaN."""
    return str(value) if isinstance(value, float) and not abs(value) < float("inf") else value


def _shown(value: Scalar | None, *, single: bool) -> str:
    """A value with the digits that it has; a binary32 has seven."""
    if value is None:
        return "—"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:.7g}" if single else f"{value:.15g}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
