"""Time on a bus, and whether a fire is seen in time on it. Pure.

A bus asks one thing at a time. A fire that begins just after its point was read is told, at the worst, after

    poll interval + the longest request in flight, with its timeout + every fire request of the bus, its own among them

The circuit breaker holds the middle term to one request: a unit that does not answer is asked once an interval, and never
before a fire request that is due.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from iotcore.specs.model import ModbusLimits
from iotcore.specs.plan import Request
from iotcore.specs.raw import BIT_TABLES

DATA_BITS = 8  # Modbus over Serial Line 1.02, §2.5.1: RTU has 8 data bits
REQUEST_BYTES = 8  # unit, function code, address 2, count 2, CRC 2; Application Protocol 1.1b3, §6.1 to §6.4
ANSWER_BYTES = 5  # unit, function code, byte count, CRC 2, and the words
GAP_CHARS = 3.5  # silence that ends a frame; Modbus over Serial Line 1.02, §2.5.1.1
FAST_GAP_S = 0.00175  # the same above 19,200 baud
FAST_BAUD = 19_200
NETWORK_ANSWER_S = 0.02  # from question to answer over a network: our own allowance
SERIAL_ANSWER_S = 0.05  # the same on a serial line, without the time on the line: our own allowance


@dataclass(frozen=True, slots=True)
class Serial:
    """How characters go over a serial line."""

    baud: int
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: Literal[1, 2] = 1

    @property
    def char_s(self) -> float:
        """One character: start bit, data, parity, stop bits."""
        return (1 + DATA_BITS + (self.parity != "N") + self.stop_bits) / self.baud

    @property
    def gap_s(self) -> float:
        """The silence that ends a frame."""
        return FAST_GAP_S if self.baud > FAST_BAUD else GAP_CHARS * self.char_s

    def __str__(self) -> str:
        return f"{self.baud} baud {DATA_BITS}{self.parity}{self.stop_bits}"


def of_limits(limits: ModbusLimits) -> Serial:
    """The serial line of a unit as it is delivered."""
    return Serial(limits.baud, limits.parity, limits.stop_bits)


def frame_bytes(request: Request) -> tuple[int, int]:
    """Bytes of the question and of its answer in RTU frames."""
    words = (request.count + 7) // 8 if request.table in BIT_TABLES else 2 * request.count
    return REQUEST_BYTES, ANSWER_BYTES + words


def on_the_line_s(request: Request, serial: Serial) -> float:
    """How long question and answer occupy a serial line, each with the silence that ends it."""
    return exchange_s(sum(frame_bytes(request)), serial)


def exchange_s(both_bytes: int, serial: Serial) -> float:
    """The same for a question and an answer of so many bytes together."""
    return both_bytes * serial.char_s + 2.0 * serial.gap_s


class Asked(NamedTuple):
    """A unit as the budget sees it. `fire` are its fire requests by poll interval; `others` what else it is asked."""

    name: str
    fire: tuple[tuple[float, tuple[Request, ...]], ...]
    others: tuple[Request, ...]
    limits: ModbusLimits
    budget_s: float
    serial: Serial | None  # None: a network, where only answers take time

    def request_s(self, request: Request) -> float:
        """What a request that is answered takes of the bus."""
        answer_s = on_the_line_s(request, self.serial) + SERIAL_ANSWER_S if self.serial else NETWORK_ANSWER_S
        return answer_s + self.limits.min_gap_ms / 1000.0

    def work_s(self) -> float:
        """All its fire requests, each once."""
        return sum(self.request_s(request) for _, requests in self.fire for request in requests)

    def share(self) -> float:
        """The part of all time that its fire requests take."""
        return sum(self.request_s(request) / poll_s for poll_s, requests in self.fire for request in requests)

    def poll_s(self) -> float:
        """The longest interval of its fire points."""
        return max((poll_s for poll_s, _ in self.fire), default=0.0)

    def in_flight_s(self) -> float:
        """Its longest request when nobody answers it."""
        every = (*self.others, *(request for _, requests in self.fire for request in requests))
        line_s = max((on_the_line_s(request, self.serial) for request in every), default=0.0) if self.serial else 0.0
        return line_s + self.limits.timeout_s


def refusals(units: Iterable[Asked], settled: Collection[str] = ()) -> dict[str, str]:
    """Units that cannot be polled on this bus without breaking a fire budget, each with the arithmetic.

    Units with fire points are let in first, then those `settled` (polled already), then by name: a newcomer never takes the
    place of another, and a unit without fire points never takes that of a fire.
    """
    accepted: list[Asked] = []
    refused: dict[str, str] = {}
    for unit in sorted(units, key=lambda unit: (not unit.fire, unit.name not in settled, unit.name)):
        if why := _broken([*accepted, unit]):
            refused[unit.name] = why
        else:
            accepted.append(unit)
    return refused


def _broken(units: Sequence[Asked]) -> str:
    """The arithmetic of the first budget that these units together break; "" when all are kept."""
    fire = [unit for unit in units if unit.fire]
    if not fire:
        return ""
    slowest = max(units, key=Asked.in_flight_s)
    work_s = sum(unit.work_s() for unit in fire)
    tightest = min(fire, key=lambda unit: unit.budget_s - unit.poll_s())
    if tightest.poll_s() + slowest.in_flight_s() + work_s > tightest.budget_s:
        return worst_case(tightest, units)
    if sum(unit.share() for unit in fire) > 1.0:
        parts = ", ".join(f"{unit.name} {unit.work_s():.3f} s each {unit.poll_s():g} s" for unit in fire)
        return f"the fire requests need {sum(unit.share() for unit in fire):.2f} s of each second of the bus: {parts}"
    return ""


def worst_case(unit: Asked, units: Sequence[Asked]) -> str:
    """The sum for one unit among `units` of its bus, written out."""
    slowest = max(units, key=Asked.in_flight_s)
    fire = [each for each in units if each.fire]
    work_s = sum(each.work_s() for each in fire)
    total_s = unit.poll_s() + slowest.in_flight_s() + work_s
    line_s = slowest.in_flight_s() - slowest.limits.timeout_s
    frames = f"{line_s:.3f} s on the line at {slowest.serial} and " if slowest.serial else ""
    parts = ", ".join(f"{each.name} {each.work_s():.3f} s" for each in fire)
    verdict = "more than" if total_s > unit.budget_s else "within"
    return (
        f"{unit.name}: poll interval {unit.poll_s():g} s + longest request in flight {slowest.in_flight_s():.3f} s"
        f" ({slowest.name}: {frames}a timeout of {slowest.limits.timeout_s:g} s) + fire requests {work_s:.3f} s ({parts})"
        f" = {total_s:.3f} s, {verdict} the fire budget of {unit.budget_s:g} s"
    )
