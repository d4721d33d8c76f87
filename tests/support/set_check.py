"""What became of a set of readings: pure judgement over what devices sent, what was receipted, what the store holds at last.

    ok           receipted after it was published once, and in the store
    recovered    in the store, but only after its device had published it again (or never had a receipt at all)
    lost         receipted, and not in the store: the promise is broken
    missing      not receipted, and not in the store: no promise is broken, yet devices were to send it until it is
    duplicated   in the store more than once (each further time counts)
    unexpected   in the store, though nobody ever sent it so: an unknown number, or another device, number or content than it had

Every reading is one of the first four; the last two are counted besides. The words are those of Jepsen's set test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

TWIN_FACTOR, TWIN_MODULUS = 2_654_435_761, 2_147_483_629  # a number's second value: any fixed scramble that a float holds exactly
SHOWN = 5  # examples of each kind in a report


class Sent(NamedTuple):
    """A reading as its device remembers it; `number` is unique over all devices, `receipted_s` is None without a receipt."""

    number: int
    device: str
    seq: int
    made_s: float
    tries: int
    receipted_s: float | None


class Stored(NamedTuple):
    """A point as the store holds it."""

    number: float | None
    device: str
    seq: int
    twin: float | None


@dataclass(slots=True)
class Report:
    """How many of each, and a few numbers of what must not be."""

    sent: int = 0
    ok: int = 0
    recovered: int = 0
    lost: int = 0
    missing: int = 0
    duplicated: int = 0
    unexpected: int = 0
    slowest_receipt_s: float = 0.0
    examples: dict[str, list[str]] = field(default_factory=dict)

    def wrong(self) -> list[str]:
        """What breaks the promise, in words; empty when all is well."""
        kinds = ("lost", "missing", "duplicated", "unexpected")
        return [f"{getattr(self, k)} {k}: {', '.join(self.examples[k])}" for k in kinds if getattr(self, k)]

    def _note(self, kind: str, what: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        some = self.examples.setdefault(kind, [])
        if len(some) < SHOWN:
            some.append(what)


def twin(number: int) -> int:
    """The second value of reading `number`: content that no other reading has."""
    return number * TWIN_FACTOR % TWIN_MODULUS


def check(sent: Iterable[Sent], stored: Iterable[Stored]) -> Report:
    """Judge a history that has come to rest: devices have stopped, the store takes nothing more."""
    report = Report()
    known = {one.number: one for one in sent}
    held: Counter[int] = Counter()
    for point in stored:
        one = known.get(point.number) if point.number is not None else None  # type: ignore[call-overload]  # 3.0 == 3
        if one is None or (point.device, point.seq, point.twin) != (one.device, one.seq, twin(one.number)):
            report._note("unexpected", str(point))
            continue
        held[one.number] += 1
        if held[one.number] > 1:
            report._note("duplicated", _name(one))
    for one in known.values():
        report.sent += 1
        if one.receipted_s is not None:
            report.slowest_receipt_s = max(report.slowest_receipt_s, one.receipted_s - one.made_s)
        if one.number in held:
            if one.tries > 1 or one.receipted_s is None:
                report.recovered += 1
            else:
                report.ok += 1
        else:
            report._note("missing" if one.receipted_s is None else "lost", _name(one))
    return report


def _name(one: Sent) -> str:
    return f"{one.device}#{one.seq}"
