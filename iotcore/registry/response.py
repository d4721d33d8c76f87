"""The response plan of a premises: how a fire there is verified, delayed, told and escalated. Documents, checked whole; pure.

A premises without a plan is `immediate`: no delay, every receiver. That is the strongest there is as to time; whatever makes a
plan weaker than the one before is named by `weaker`, so that a second person can be asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from iotcore import schedule
from iotcore.errors import ConfigError, Problem
from iotcore.registry.text import unseen
from iotcore.schedule import Schedule
from iotcore.specs import yaml12
from iotcore.strict import convert

# EN 54-2: an output is delayed by 10 minutes at the most, whatever is configured.
LONGEST_DELAY_S = 600
FEWEST_NUMBERS = 3  # devices on the Vietnamese market call at least three
MOST = 20  # numbers, steps, receivers: a list that a person can read in a fire
MAX_BYTES = 50_000

Profile = Literal["immediate", "verified"]
Named = Annotated[str, Meta(min_length=1, max_length=60)]
PhoneNumber = Annotated[str, Meta(pattern=r"^\+[1-9][0-9]{6,14}$", description="E.164: + and country, 7 to 15 digits")]


class Delay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long dispatch waits: `t1_s` for somebody to acknowledge, and `t2_s` after that for them to look."""

    t1_s: Annotated[int, Meta(ge=15, le=300)]
    t2_s: Annotated[int, Meta(ge=0, le=LONGEST_DELAY_S)] = 0
    when: Schedule | None = None  # at any time


class Number(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Somebody to call, in the order of the list."""

    name: Named
    number: PhoneNumber
    by: Literal["sms", "voice"] = "voice"
    language: Literal["vi", "en"] = "vi"


class Rung(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A step of the ladder: whom to tell when nobody has acknowledged for `after_s`; numbers and receivers by name."""

    after_s: Annotated[int, Meta(ge=0, le=3600)]
    whom: tuple[Named, ...]
    when: Schedule | None = None  # at any time


class Owner(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who may confirm or deny a fire, beside its dispatch."""

    name: Named
    number: PhoneNumber
    by: Literal["sms", "voice"] = "sms"
    language: Literal["vi", "en"] = "vi"


class Drills(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often the whole road is tried. Of the receivers behind which people are (mail, texts, calls) only `also` hear of it."""

    every_days: Annotated[int, Meta(ge=1, le=366)]
    also: tuple[Named, ...] = ()


class Response(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A plan. `asked_by` is where the fire service asked in writing for a verified profile or a delay."""

    profile: Profile = "immediate"
    asked_by: Annotated[str, Meta(max_length=200)] = ""
    delay: Delay | None = None
    receivers: tuple[Named, ...] = ()  # names of the settings; none: all
    numbers: tuple[Number, ...] = ()
    ladder: tuple[Rung, ...] = ()
    owner: Owner | None = None
    drills: Drills | None = None


DEFAULT = Response()


def parse(text: str, file: str) -> object:
    """The plain data of a plan in YAML; raises ConfigError."""
    if len(text.encode()) > MAX_BYTES:
        raise ConfigError([Problem(file, "", f"has {len(text.encode())} bytes of at most {MAX_BYTES}")])
    try:
        return yaml12.parse(text)
    except ValueError as error:
        raise ConfigError([Problem(file, "", f"is not YAML: {error}")]) from error


def check(document: object, receivers: Collection[str], file: str = "response") -> Response:
    """A plan from plain data; `receivers` are those that the settings name.

    Raises:
        ConfigError: with everything that is wrong with it.
    """
    plan = convert(document, Response, file)
    problems = [Problem(file, path, reason) for path, reason in _problems(plan, receivers)]
    if problems:
        raise ConfigError(problems)
    return plan


def weaker(before: Response, after: Response) -> tuple[str, ...]:
    """What of `after` protects less than `before` did, in words; none: nobody else has to be asked."""
    return tuple(_weaker(before, after))


def _problems(plan: Response, receivers: Collection[str]) -> Iterator[tuple[str, str]]:
    yield from _request_problems(plan)
    for i, name in enumerate(plan.receivers):
        if name not in receivers:
            yield f"receivers[{i}]", f"no receiver {name!r} in the settings; there are: {', '.join(sorted(receivers)) or 'none'}"
    for i, name in enumerate(plan.drills.also if plan.drills is not None else ()):
        if name not in receivers:
            yield f"drills.also[{i}]", f"no receiver {name!r} in the settings"
    yield from _twice("receivers", plan.receivers)
    yield from _twice("numbers", [one.name for one in plan.numbers])
    yield from _twice("numbers", [one.number for one in plan.numbers])
    if 0 < len(plan.numbers) < FEWEST_NUMBERS:
        yield "numbers", f"has {len(plan.numbers)}; where there are any, there are at least {FEWEST_NUMBERS}"
    yield from _ladder_problems(plan, receivers)
    for path, count in (("receivers", len(plan.receivers)), ("numbers", len(plan.numbers)), ("ladder", len(plan.ladder))):
        if count > MOST:
            yield path, f"has {count} entries of at most {MOST}"
    for path, text in _texts(plan):
        if wrong := unseen(text):
            yield path, wrong


def _request_problems(plan: Response) -> Iterator[tuple[str, str]]:
    if not plan.asked_by.strip():
        if plan.profile == "verified":
            yield "asked_by", "missing: a verified profile takes the fire service's written request; name it"
        if plan.delay is not None:
            yield "asked_by", "missing: a delay takes the fire service's written request; name it"
    if plan.delay is not None and (total_s := plan.delay.t1_s + plan.delay.t2_s) > LONGEST_DELAY_S:
        yield "delay", f"t1_s and t2_s are {total_s} s together, of at most {LONGEST_DELAY_S}"
    if plan.delay is not None and plan.delay.when is not None:
        yield from ((one.path, one.reason) for one in schedule.problems(plan.delay.when, "", "delay.when"))


def _ladder_problems(plan: Response, receivers: Collection[str]) -> Iterator[tuple[str, str]]:
    known = {one.name for one in plan.numbers} | set(plan.receivers or receivers)
    for i, rung in enumerate(plan.ladder):
        if not 0 < len(rung.whom) <= MOST:
            yield f"ladder[{i}].whom", f"names {len(rung.whom)}; it names 1 to {MOST}"
        for j, name in enumerate(rung.whom):
            if name not in known:
                yield f"ladder[{i}].whom[{j}]", f"{name!r} is neither one of its numbers nor one of its receivers"
        if rung.when is not None:
            yield from ((one.path, one.reason) for one in schedule.problems(rung.when, "", f"ladder[{i}].when"))
        if i and rung.after_s < plan.ladder[i - 1].after_s:
            yield f"ladder[{i}].after_s", "is before the step above it: put the steps in the order of their time"


def _twice(path: str, names: Collection[str]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield path, f"{name!r} stands there twice"
        seen.add(name)


def _texts(plan: Response) -> Iterator[tuple[str, str]]:
    yield "asked_by", plan.asked_by
    for i, one in enumerate(plan.numbers):
        yield f"numbers[{i}].name", one.name
    if plan.owner is not None:
        yield "owner.name", plan.owner.name


def _weaker(before: Response, after: Response) -> Iterator[str]:
    if after.profile == "verified" != before.profile:
        yield "the profile becomes verified"
    if after.delay is not None and (before.delay is None or _longer(before.delay, after.delay)):
        yield f"dispatch waits for up to {after.delay.t1_s + after.delay.t2_s} s"
    if after.receivers and (lost := sorted(set(before.receivers) - set(after.receivers))):
        yield f"no longer told: {', '.join(lost)}"
    elif after.receivers and not before.receivers:
        yield f"only these receivers are told: {', '.join(after.receivers)}"
    if lost := sorted({one.number for one in before.numbers} - {one.number for one in after.numbers}):
        yield f"no longer called: {', '.join(lost)}"
    if len(after.ladder) < len(before.ladder):
        yield f"the ladder has {len(after.ladder)} steps instead of {len(before.ladder)}"
    if before.drills is not None and (after.drills is None or after.drills.every_days > before.drills.every_days):
        yield "there are fewer drills"


def _longer(before: Delay, after: Delay) -> bool:
    return after.when != before.when or after.t1_s > before.t1_s or after.t1_s + after.t2_s > before.t1_s + before.t2_s
