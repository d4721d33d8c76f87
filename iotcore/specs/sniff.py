"""Which byte order does a register have? The four orders of a few samples, judged: plausible, steady, near what is known. Pure.

A wrong order nearly always shows: a binary32 with its words swapped is astronomically large or tiny, or trembles by orders of
magnitude when the true value moves by its last digit. It is a suggestion for a technician, who also knows what the display of
the unit says; what cannot be told apart is said so.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import get_args

from iotcore.specs import raw
from iotcore.specs.model import ByteOrder, RawType

ORDERS: tuple[ByteOrder, ...] = get_args(ByteOrder)
LARGEST_PLAUSIBLE = 1e7  # of a measured value in any usual unit; counters may be larger, a hint settles those
SMALLEST_PLAUSIBLE = 1e-4  # of a fraction that is not 0
NEAR = 0.05  # of the known value: what a display rounds, and what the value moves meanwhile
STEADY = 0.25  # of the largest sample: samples of one process lie closer together
STEADY_AT_LEAST = 1.0  # around zero a small value may well change its sign


class Fault(Enum):
    """Why an order is not it."""

    NOT_FINITE = "is not a number"
    FAR = "is far from the known value"
    OUTSIDE = "is outside the range"
    SIZE = "is too large or too small to be measured"
    UNSTEADY = "jumps between the samples"


class Verdict(Enum):
    """What the samples say together."""

    ONE = "one order fits"
    SEVERAL = "several orders fit"
    NONE = "no order fits"
    ALIKE = "all orders give the same value"
    EMPTY = "in one order it is steadily not a number, as of a unit that has no value"


@dataclass(frozen=True, slots=True)
class Hint:
    """What a person knows of the value: about what it is, or between what."""

    near: float | None = None
    between: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """Orders that read the samples alike, what they read, and what speaks against them."""

    orders: tuple[ByteOrder, ...]
    values: tuple[float, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Sniffed:
    """`order` is the suggestion, the first of orders that are alike; None when there is none to make."""

    verdict: Verdict
    order: ByteOrder | None
    candidates: tuple[Candidate, ...]


def sniff(kind: RawType, samples: Sequence[Sequence[int]], hint: Hint | None = None) -> Sniffed:
    """Judge samples of the same registers (as many words each as the type has), read one after the other.

    Raises:
        ValueError: a type without an order (bit, string), no sample, or one of another length.
    """
    if kind not in raw.WORDS or kind == "bit":
        raise ValueError(f"{kind} has no byte order to look for")
    if not samples or any(len(words) != raw.WORDS[kind] for words in samples):
        raise ValueError(f"{kind} takes {raw.WORDS[kind]} registers in each sample")
    alike: dict[bytes, list[ByteOrder]] = {}
    for order in ORDERS:
        key = struct.pack(f">{len(samples)}d", *(raw.number(kind, words, order) for words in samples))
        alike.setdefault(key, []).append(order)
    found = []
    for orders in alike.values():
        values = tuple(float(raw.number(kind, words, orders[0])) for words in samples)
        found.append(Candidate(tuple(orders), values, _faults(kind, values, hint or Hint())))
    found.sort(key=lambda candidate: len(candidate.faults))
    fitting = [candidate for candidate in found if not candidate.faults]
    if len(found) == 1 and fitting:
        return Sniffed(Verdict.ALIKE, None, tuple(found))
    if hint is None and any(candidate.faults == (Fault.NOT_FINITE,) for candidate in found):
        return Sniffed(Verdict.EMPTY, None, tuple(found))
    if len(fitting) == 1:
        return Sniffed(Verdict.ONE, fitting[0].orders[0], tuple(found))
    return Sniffed(Verdict.SEVERAL if fitting else Verdict.NONE, None, tuple(found))


def _faults(kind: RawType, values: tuple[float, ...], hint: Hint) -> tuple[Fault, ...]:
    if not all(map(math.isfinite, values)):
        return (Fault.NOT_FINITE,)
    found = []
    reach = max(map(abs, hint.between)) if hint.between else 0.0
    smallest = min(SMALLEST_PLAUSIBLE, SMALLEST_PLAUSIBLE * reach or 1.0) if kind in raw.FLOATS else 0.0
    largest = max(LARGEST_PLAUSIBLE, reach)
    if hint.near is not None and any(abs(value - hint.near) > NEAR * max(abs(hint.near), abs(value)) for value in values):
        found.append(Fault.FAR)
    if hint.between is not None and any(not hint.between[0] <= value <= hint.between[1] for value in values):
        found.append(Fault.OUTSIDE)
    if hint.near is None and any(value and not smallest <= abs(value) <= largest for value in values):
        found.append(Fault.SIZE)
    if max(values) - min(values) > max(STEADY_AT_LEAST, STEADY * max(map(abs, values))):
        found.append(Fault.UNSTEADY)
    return tuple(found)
