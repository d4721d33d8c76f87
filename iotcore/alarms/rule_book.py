"""Rule book: the rules of a file as the base, the registry's documents over it, and together what the engine is given.

    base (shipped, or the settings' file) ─┐
                                           ├─ by key, a document in place of the base's ─► the rules in use
    documents of the registry ─────────────┘

A document is what an entry of a rule file is: one rule. Its key is the rule's id and what it is for (`key_of`). Two of one id and
different scopes live beside each other, and the engine takes the most specific one for each device. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from iotcore.alarms import rules as fire_rules
from iotcore.alarms.rules import Rule
from iotcore.errors import ConfigError, Problem
from iotcore.schedule import Schedule

Origin = Literal["base", "document"]
MANY = 48  # characters of names in a key; more are told by their hash
HASH_LENGTH = 12
FIRST = (
    "id",
    "hazard",
    "severity",
    "immediate",
    "latched",
    "source",
    "device_classes",
    "models",
    "group",
    "premises",
    "device",
    "schedule",
)
FIRST_OF_CONDITION = ("kind", "point", "points", "unit")
DEFAULT_CLASSES = next(one.default for one in msgspec.structs.fields(Rule) if one.name == "device_classes")


@dataclass(frozen=True, slots=True)
class Kept:
    """A rule in use: where it comes from, and which version of its document it is (0: the base's)."""

    key: str
    rule: Rule
    origin: Origin = "base"
    version: int = 0
    by: str = ""
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Trouble:
    """A document that cannot be read by this version of iotcore, and the version of it that is used in its place.

    `used` 0: none was ever good; the base's rule holds, where it has one.
    """

    key: str
    version: int
    used: int
    problems: tuple[str, ...]

    def __str__(self) -> str:
        instead = f"version {self.used} stays in use" if self.used else "no earlier version is good; it is left out"
        return f"rule {self.key}: version {self.version} cannot be used ({'; '.join(self.problems)}): {instead}"


def scope_of(rule: Rule) -> str:
    """What a rule is for: "device:d1", "premises:p1", "group:g,models:a", "hours:night"; "" for every usual device, always."""
    named = (("device", rule.device), ("premises", rule.premises), ("group", rule.group))
    places = [f"{name}:{found}" for name, found in named if found]
    places += [f"places:{_names(rule.places)}"] if rule.places else []
    places += [f"profile:{rule.profile}"] if rule.profile else []
    models = [f"models:{_names(rule.models)}"] if rule.models else []
    usual = set(rule.device_classes) == set(DEFAULT_CLASSES)
    classes = [] if usual else [f"classes:{_names(rule.device_classes)}"]
    return ",".join([*places, *models, *classes, *([f"hours:{_hours(rule.schedule)}"] if rule.schedule is not None else [])])


def key_of(rule: Rule) -> str:
    """The name of a rule's document: its id, and its scope unless that is every fire device."""
    scope = scope_of(rule)
    return f"{rule.id}@{scope}" if scope else rule.id


def read(body: object, name: str) -> Rule:
    """One rule out of plain data; `name` stands in the errors.

    Raises:
        ConfigError: with everything that is wrong with it.
    """
    try:
        (rule,) = fire_rules.check({"profile": "immediate", "rules": [body]}, name)
    except ConfigError as error:
        raise ConfigError([_of_one(problem) for problem in error.problems]) from None
    return rule


def stored(key: str, body: str) -> Rule:
    """The rule of a stored document.

    Raises:
        ConfigError: this version of iotcore cannot use it.
    """
    try:
        plain = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise ConfigError([Problem(key, "", f"is not JSON: {error}")]) from error
    rule = read(plain, key)
    if key_of(rule) != key:
        raise ConfigError([Problem(key, "id", f"holds the rule {key_of(rule)}")])
    return rule


def book(base: Sequence[Rule], documents: Iterable[Kept]) -> dict[str, Kept]:
    """The rules in use by key: the base's in their order, each document in the place of the one that it replaces."""
    found = {key_of(rule): Kept(key_of(rule), rule) for rule in base}
    found |= {one.key: one for one in documents}
    return found


def written(document: Any) -> Any:
    """A document as a person would write it: what names a thing first."""
    if isinstance(document, list):
        return [written(one) for one in document]
    if not isinstance(document, dict):
        return document
    first = FIRST if "when" in document else FIRST_OF_CONDITION
    names = [name for name in first if name in document] + [name for name in document if name not in first]
    return {name: written(document[name]) for name in names}


def plain(rule: Rule) -> Any:
    """A rule as a document: what is as it is anyway is left out."""
    return written(_lean(rule))


def _lean(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_lean(one) for one in value]
    if not isinstance(value, msgspec.Struct):
        return int(value) if isinstance(value, float) and value.is_integer() else msgspec.to_builtins(value)
    config = value.__struct_config__
    found: dict[str, Any] = {config.tag_field: config.tag} if config.tag_field else {}
    for one in msgspec.structs.fields(type(value)):
        part = getattr(value, one.name)
        if one.required or part != one.default:
            found[one.encode_name] = _lean(part)
    return found


def _hours(schedule: Schedule) -> str:
    if schedule.named:
        return schedule.named
    return hashlib.sha256(msgspec.json.encode(schedule)).hexdigest()[:HASH_LENGTH]


def _names(names: Iterable[str]) -> str:
    text = "+".join(sorted(set(names)))
    return text if len(text) <= MANY else hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]


def _of_one(problem: Problem) -> Problem:
    """A problem of the only rule of a file, as one of the rule."""
    path = problem.path.removeprefix("rules[0]").removeprefix(".")
    return Problem(problem.file, path, problem.reason)
