"""A scenario as a fire officer reads it: what is done when, what must be seen by when, what must never be seen.

    at(1.0, alarm("sd-1"))                   a deed, at a moment
    each(0, 60, 5, calm("sd-1"))             a deed, again and again
    want(1.1, dc09("FA", account="1001"))    seen by then, not before the deed above it, and no second to the end
    never(dc09("FH"), 2.0, 30.0)             not in this time; without times: not at all

Times are seconds of the timeline. What a receiver is told and nobody wanted fails the row, wanted or not: a second alarm has
nowhere to hide. Pure: worlds carry the deeds out and say what they see.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

STRICT = frozenset({"dc09", "cap"})  # what a receiver is told: a row names all of it


@dataclass(frozen=True, slots=True)
class Seen:
    """Something that was seen, and when."""

    at_s: float
    kind: str
    facts: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.kind} {' '.join(f'{key}={value}' for key, value in self.facts.items())}"


@dataclass(frozen=True, slots=True)
class Sight:
    """What is looked for: something of this kind with these facts, whatever else it says. A text stands for its beginning."""

    kind: str
    facts: Mapping[str, Any]
    says: str

    def fits(self, seen: Seen) -> bool:
        return seen.kind == self.kind and all(_fits(value, seen.facts.get(key)) for key, value in self.facts.items())


def _fits(wanted: object, found: object) -> bool:
    return found.startswith(wanted) if isinstance(wanted, str) and isinstance(found, str) else found == wanted


def sight(kind: str, says: str = "", /, **facts: Any) -> Sight:
    """A sight; `says` is how a person names it."""
    return Sight(kind, facts, says or f"{kind} {' '.join(str(value) for value in facts.values())}")


def dc09(code: str, says: str = "", /, **facts: Any) -> Sight:
    """An event at a receiver that speaks SIA DC-09: FA a fire, FH its end …"""
    more = "".join(f", {key} {value}" for key, value in facts.items())
    return Sight("dc09", {"code": code, **facts}, says or f"DC-09 {code}{more}")


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that is done to a world."""

    says: str
    do: Callable[[Any], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class At:
    at_s: float
    deed: Deed

    def __str__(self) -> str:
        return f"{self.at_s:g} s: {self.deed.says}"


@dataclass(frozen=True, slots=True)
class Each:
    from_s: float
    to_s: float
    every_s: float
    says: str
    deed: Callable[[float], Deed]

    def __str__(self) -> str:
        return f"{self.from_s:g}–{self.to_s:g} s, each {self.every_s:g} s: {self.says}"

    def moments(self) -> Iterator[At]:
        for nth in range(int((self.to_s - self.from_s) / self.every_s + 1e-9) + 1):
            at_s = self.from_s + nth * self.every_s
            yield At(at_s, self.deed(at_s))


@dataclass(frozen=True, slots=True)
class Want:
    by_s: float
    sight: Sight
    after_s: float | None = None  # None: not before the deed above it
    again: bool = False  # the same frame may come again, under its number

    def __str__(self) -> str:
        more = ", perhaps again under its number" if self.again else ""
        return f"**want ≤ {self.by_s:g} s: {self.sight.says}**{more}"


@dataclass(frozen=True, slots=True)
class Never:
    sight: Sight
    from_s: float = 0.0
    to_s: float = float("inf")

    def __str__(self) -> str:
        when = "" if self.to_s == float("inf") and not self.from_s else f" {self.from_s:g}–{self.to_s:g} s"
        return f"never{when}: {self.sight.says}"


Step = At | Each | Want | Never


def at(at_s: float, deed: Deed) -> At:
    return At(at_s, deed)


def each(from_s: float, to_s: float, every_s: float, deed: Deed | Callable[[float], Deed], says: str = "") -> Each:
    """A deed each so often; a function of the moment needs words of its own."""
    if isinstance(deed, Deed):
        return Each(from_s, to_s, every_s, says or deed.says, lambda _: deed)
    assert says
    return Each(from_s, to_s, every_s, says, deed)


def want(by_s: float, what: Sight, *, after_s: float | None = None, again: bool = False) -> Want:
    return Want(by_s, what, after_s, again)


def never(what: Sight, from_s: float = 0.0, to_s: float = float("inf")) -> Never:
    return Never(what, from_s, to_s)


@dataclass(frozen=True, slots=True)
class Row:
    """One timeline of a scenario. `setting` is what its world is made of; `end_s` is when it is judged."""

    number: int
    name: str
    setting: Any
    steps: Sequence[Step]
    end_s: float = 0.0  # 0: five seconds after the last step
    besides: Sequence[Sight] = ()  # what may be told besides, any number of times

    @property
    def until_s(self) -> float:
        last_s = 0.0
        for step in self.steps:
            match step:
                case At(at_s=moment_s) | Each(to_s=moment_s) | Want(by_s=moment_s):
                    last_s = max(last_s, moment_s)
                case Never(to_s=moment_s) if moment_s != float("inf"):
                    last_s = max(last_s, moment_s)
        return self.end_s or last_s + 5.0

    @property
    def id(self) -> str:
        return f"{self.number:02d} {self.name}"


def moments(steps: Sequence[Step]) -> list[At]:
    """The deeds in the order of their time."""
    found: list[At] = []
    for step in steps:
        found += [step] if isinstance(step, At) else step.moments() if isinstance(step, Each) else ()
    return sorted(found, key=lambda one: one.at_s)


@dataclass(slots=True)
class _Claims:
    """Which sight has been wanted how often, and what wants have taken."""

    taken: set[int] = field(default_factory=set)
    nth: dict[str, int] = field(default_factory=dict)


def problems(row: Row, seen: Sequence[Seen]) -> list[str]:
    """What was not as the row wants it; empty: it passed."""
    claims, found, done_s = _Claims(), list[str](), 0.0
    for step in row.steps:
        match step:
            case At(at_s=moment_s) | Each(from_s=moment_s):
                done_s = moment_s
            case Want():
                found += _wanted(step, done_s, seen, claims)
            case Never():
                found += [
                    f"{one.at_s:.3f} s: {one}: must never be seen here"
                    for one in seen
                    if step.from_s <= one.at_s <= step.to_s and step.sight.fits(one)
                ]
    wanted = {step.sight.says: step for step in row.steps if isinstance(step, Want)}
    for says, count in claims.nth.items():
        fitting = [n for n, one in enumerate(seen) if wanted[says].sight.fits(one) and not _again(seen, n, wanted[says])]
        found += [f"{seen[n].at_s:.3f} s: {seen[n]}: one more than was wanted" for n in fitting[count:]]
    excused = [step for step in row.steps if isinstance(step, Want) and step.again]
    for n, one in enumerate(seen):
        if (
            one.kind in STRICT
            and n not in claims.taken
            and not any(_again(seen, n, step) for step in excused)
            and not any(allowed.fits(one) for allowed in row.besides)
        ):
            found.append(f"{one.at_s:.3f} s: {one}: nobody wanted it")
    return list(dict.fromkeys(found))


def _again(seen: Sequence[Seen], n: int, step: Want) -> bool:
    """Whether it is what was seen before, which may come again."""
    return step.again and any(one.kind == seen[n].kind and one.facts == seen[n].facts for one in seen[:n])


def _wanted(step: Want, done_s: float, seen: Sequence[Seen], claims: _Claims) -> list[str]:
    nth = claims.nth[step.sight.says] = claims.nth.get(step.sight.says, 0) + 1
    fitting = [n for n, one in enumerate(seen) if step.sight.fits(one) and not _again(seen, n, step)]
    if len(fitting) < nth:
        return [f"by {step.by_s:g} s: {step.sight.says}: never seen"]
    n = fitting[nth - 1]
    claims.taken.add(n)
    after_s = done_s if step.after_s is None else step.after_s
    if not after_s <= seen[n].at_s <= step.by_s:
        return [f"between {after_s:g} and {step.by_s:g} s: {step.sight.says}: seen at {seen[n].at_s:.3f} s"]
    return []


def told(row: Row, seen: Sequence[Seen], wrong: Sequence[str]) -> str:
    """The timeline as it was beside what was wanted, for whoever reads why a row fails."""
    wanted = [f"  {step}" for step in row.steps]
    was = [f"  {one.at_s:9.3f} s  {one}" for one in seen]
    return "\n".join([f"scenario {row.id}", "wanted", *wanted, "as it was", *was, "wrong", *(f"  {one}" for one in wrong)])
