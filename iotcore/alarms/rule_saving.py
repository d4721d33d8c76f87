"""What is looked at before rule documents are saved: everything that is wrong at once, and what takes a second person. Pure.

Beside the rule itself: what it names must be there, every point must be one of a model that it covers and in its unit, no two of
one id may claim the same devices by equal right, and all of it together must stay within what the engine is measured for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from iotcore.alarms import rules as fire_rules
from iotcore.alarms.conditions import Over, leaves
from iotcore.alarms.rule_book import Kept, book, key_of, read
from iotcore.alarms.rules import Rule
from iotcore.errors import ConfigError, Problem
from iotcore.registry.directory import Directory
from iotcore.specs.model import DeviceSpec

MAX_RULES = 10_000  # benchmarks.rules measures as many
MAX_LEAVES = 100_000  # conditions of all rules together
NEAR_AMONG = 2_000  # names that a wrong one is compared with: more would take seconds for each


@dataclass(frozen=True, slots=True)
class Known:
    """What a rule may name, and the rules that are in use."""

    specs: Mapping[str, DeviceSpec]
    directory: Directory
    groups: Collection[str]
    base: Sequence[Rule]
    in_use: Mapping[str, Kept]


@dataclass(frozen=True, slots=True)
class Checked:
    """A document that may be saved."""

    key: str
    rule: Rule
    body: Any


def check(documents: Sequence[tuple[str, Any]], known: Known) -> dict[str, Checked]:
    """Documents, each with where it was read from, by their keys.

    Raises:
        ConfigError: with everything that is wrong with any of them.
    """
    problems: list[Problem] = []
    found: dict[str, Checked] = {}
    for name, body in documents:
        try:
            rule = read(body, name)
        except ConfigError as error:
            problems += error.problems
            continue
        key = key_of(rule)
        if key in found:
            problems.append(Problem(name, "id", f"the rule {key} stands twice"))
        problems += fire_rules.mismatches([rule], known.specs, name)
        problems += _unknown(rule, known, name)
        problems += _leafless(rule, known, name)
        found[key] = Checked(key, rule, body)
    problems += _together(found, known)
    if problems:
        raise ConfigError(problems)
    return found


def removable(key: str, known: Known) -> list[Problem]:
    """Why a document cannot be removed; nothing when it can."""
    if key not in known.in_use:
        return [Problem(key, "", f"there is no such rule{_near(key, known.in_use)}")]
    if known.in_use[key].origin == "base":
        return [Problem(key, "", "ships with iotcore or stands in the settings' file: save a version of it in its place")]
    return []


def weakens(changed: Mapping[str, Rule | None], known: Known) -> list[str]:
    """Which of these may lower protection: they remove a rule, or change or override one that decides a fire.

    `changed` is by key, None for a removal.
    """
    alarming = {one.rule.id for one in known.in_use.values() if one.rule.severity == "alarm"}
    before = {key: one.rule for key, one in known.in_use.items()}
    return [key for key, rule in changed.items() if rule is None or (rule.id in alarming and rule != before.get(key))]


def _unknown(rule: Rule, known: Known, name: str) -> Iterator[Problem]:
    """What it names that is not there."""
    for model in rule.models:
        if model not in known.specs:
            yield Problem(name, "models", f"there is no spec of a model {model!r}{_near(model, known.specs)}")
        elif known.specs[model].device_class not in rule.device_classes:
            reason = f"{model} is of class {known.specs[model].device_class}, which device_classes leaves out"
            yield Problem(name, "models", reason)
    device, premises, group = rule.device, rule.premises, rule.group
    if device and device not in known.directory.devices:
        yield Problem(name, "device", f"there is no device {device!r}{_near(device, known.directory.devices)}")
    elif device and not rule.covers(known.directory.devices[device].spec):
        yield Problem(
            name, "device", f"{device} is a {known.directory.devices[device].spec.model}, which the rule does not cover"
        )
    if premises and premises not in known.directory.premises:
        yield Problem(name, "premises", f"there are no premises {premises!r}{_near(premises, known.directory.premises)}")
    if group and group not in known.groups:
        yield Problem(name, "group", f"there is no group {group!r}{_near(group, known.groups)}")


def _leafless(rule: Rule, known: Known, name: str) -> Iterator[Problem]:
    """Points that no model has which the rule covers: it would never decide anything."""
    covered = [spec for spec in known.specs.values() if rule.covers(spec)]
    if not covered:
        return
    if (apart := rule.apart) is not None:
        if not any(next(iter(apart.of(spec)), None) for spec in covered):
            yield Problem(name, "when.points", f"no covered model has a two-valued point like {apart.points!r}")
        return
    for leaf in leaves(rule.when):
        if isinstance(leaf, Over):
            if not any(leaf.of(spec) for spec in covered):
                yield Problem(name, "when", f"no covered model has a number like {', '.join(leaf.points)}")
        elif not any(leaf.point in spec.points for spec in covered):
            points = {point for spec in covered for point in spec.points}
            yield Problem(name, "when", f"no covered model has a point {leaf.point!r}{_near(leaf.point, points)}")


def _together(found: Mapping[str, Checked], known: Known) -> Iterator[Problem]:
    """What is wrong with all rules as they would be."""
    kept = [Kept(one.key, one.rule, "document") for one in found.values()]
    documents = [one for one in known.in_use.values() if one.origin == "document"]
    whole = book(known.base, [*documents, *kept])
    if len(whole) > MAX_RULES:
        yield Problem("rules", "", f"there would be {len(whole)}, and {MAX_RULES} are the most")
    sizes = {key: _leaves(one.rule) for key, one in whole.items()}
    if sum(sizes.values()) > MAX_LEAVES:
        yield Problem("rules", "", f"they would have {sum(sizes.values())} conditions, and {MAX_LEAVES} are the most")
    families: dict[str, list[Kept]] = {}
    for one in whole.values():
        families.setdefault(one.rule.id, []).append(one)
    for key, checked in found.items():
        for other in families[checked.rule.id]:
            if other.key != key and _equal_right(checked.rule, other.rule):
                reason = f"claims the same devices as {other.key} by equal right: both would decide. Give it the same scope, to "
                yield Problem(key, "", f"{reason}replace that one, or an id of its own")


def _equal_right(one: Rule, other: Rule) -> bool:
    """Whether two of one id are equally specific, for the same place if for one, and for some models of the same."""
    if one.rank != other.rank or _place(one) != _place(other) or one.schedule != other.schedule:
        return False
    models = not (one.models and other.models) or bool(set(one.models) & set(other.models))
    if one.places and not set(one.places) & set(other.places):
        return False
    if one.profile and other.profile and one.profile != other.profile:
        return False
    return models and bool(set(one.device_classes) & set(other.device_classes))


def _place(rule: Rule) -> str:
    return rule.device or rule.premises or rule.group


def _leaves(rule: Rule) -> int:
    return 1 if rule.apart is not None else sum(1 for _ in leaves(rule.when))


def _near(name: str, there: Collection[str]) -> str:
    found = get_close_matches(name, list(there), 3, 0.7) if len(there) <= NEAR_AMONG else []
    return f"; did you mean {', '.join(found)}?" if found else ""
