"""Layout: how a unit of one firmware is asked, prepared once: questions as bytes, and what each answer completes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from msgspec.structs import replace

from drivers.modbus import questions
from drivers.modbus.questions import Question
from drivers.modbus.quick import Decoder, decoders
from iotcore.specs import plan
from iotcore.specs.model import DeviceSpec, Table
from iotcore.specs.plan import Group, Request

Key = tuple[Table, int]
PROBES = 8  # lengths: an answer that is later than so many intervals is taken for a prompt one
KEPT = 4096  # layouts of different specs, narrowings and firmware versions kept at a time


@dataclass(frozen=True, slots=True)
class Step:
    """One request of a group. `complete` is the spec of those of its points that need no later request.

    `decoders` gives their values from this answer alone; None where they need earlier answers as well.
    """

    question: Question
    keys: tuple[Key, ...]
    points: tuple[str, ...]
    complete: DeviceSpec
    decoders: tuple[Decoder, ...] | None


@dataclass(frozen=True, slots=True)
class Read:
    """One group of points."""

    fire: bool
    poll_s: float
    steps: tuple[Step, ...]
    points: tuple[str, ...]
    requests: tuple[Request, ...]
    keeps_words: bool  # answers must be kept until the poll ends: for a point of two requests, or one that is watched


@dataclass(frozen=True, slots=True)
class Layout:
    """All groups of a spec. `probes` are questions whose answers are of lengths that no other one has, and each another one."""

    spec: DeviceSpec
    reads: tuple[Read, ...]
    version: Step | None
    probes: tuple[Question, ...]


@lru_cache(maxsize=KEPT)
def of(spec: DeviceSpec) -> Layout:
    """The layout of a spec whose points are those of its firmware."""
    reads = tuple(_read(spec, group) for group in plan.groups(spec))
    version = plan.version_request(spec)
    step = None if version is None else Step(questions.read_of(version), _keys(version), (), spec, None)
    asked = [each.question for read in reads for each in read.steps] + ([step.question] if step else [])
    return Layout(spec, reads, step, _probes(reads, asked))


def _read(spec: DeviceSpec, group: Group) -> Read:
    last = {point: number for number, request in enumerate(group.requests) for point in request.points}
    wanted = set(group.points)
    steps = []
    for number, request in enumerate(group.requests):
        names = [name for name in group.points if last.get(name) == number]
        own = {name: spec.points[name] for name in names}
        points = tuple(name for name in request.points if name in wanted)
        local = decoders(spec, request, names)
        steps.append(Step(questions.read_of(request), _keys(request), points, replace(spec, points=own), local))
    keeps = watched(spec) or any(step.decoders is None for step in steps)
    return Read(group.lane == "fire", group.poll_s, tuple(steps), group.points, group.requests, keeps)


def watched(spec: DeviceSpec) -> bool:
    """Whether any point is expected to move."""
    return any(point.stuck_after_s is not None for point in spec.points.values())


def _keys(request: Request) -> tuple[Key, ...]:
    return tuple((request.table, request.address + i) for i in range(request.count))


def _probes(reads: tuple[Read, ...], asked: list[Question]) -> tuple[Question, ...]:
    """Shorter reads of what the longest request reads, which the unit surely has; if there are none, one that is longer."""
    requests = [request for read in reads for request in read.requests]
    if not requests:
        return ()
    longest = max(requests, key=lambda request: (request.count, -request.address))
    shapes = {(question.code, question.size) for question in asked}
    found: list[Question] = []
    for count in range(1, questions.MAX_READ + 1):
        if len(found) == PROBES or (found and count > longest.count) or longest.address + count > 0x10000:  # noqa: PLR2004 - 16 bits
            break
        question = questions.read(longest.table, longest.address, count)
        if (question.code, question.size) not in shapes:
            shapes.add((question.code, question.size))
            found.append(question)
    return tuple(found)
