"""Fire rules as data: conditions with a scope, a severity and a source, checked whole before they are used.

A rule file is YAML: `profile` and a list of `rules`. Every rule names the source of its numbers. Nothing here looks at a reading;
`engine` does.

Rules of one id are a family: for a device the most specific scope that can judge it wins.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml
from msgspec import Meta

from iotcore import schedule as schedules
from iotcore.alarms.condition_check import rule_condition_problems
from iotcore.alarms.conditions import Coincidence, Condition, Each, Stale, leaves, misfit
from iotcore.errors import ConfigError, Problem
from iotcore.journal.records import Severity
from iotcore.registry.siting import Place
from iotcore.schedule import Schedule
from iotcore.specs.model import DeviceClass, DeviceSpec
from iotcore.strict import convert

Hazard = Literal["smoke", "heat", "co", "manual", "flame", "waterflow", "fire", "fault"]
RuleId = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Scope = tuple[int, tuple[str, ...], tuple[str, ...]]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When to decide what about which devices. A latched rule decides once until it is reset.

    `device_classes` and `models` say which devices it can judge; at most one of `group`, `premises` and `device` narrows that to
    the members of a dynamic group, the devices of a building, or one device. `places` narrows it to devices with that label,
    `profile` to premises of that profile.
    """

    id: RuleId
    hazard: Hazard
    severity: Severity
    when: Condition | Each
    source: Annotated[str, Meta(min_length=1, description="where the numbers come from")]
    device_classes: tuple[DeviceClass, ...] = ("fire_detector", "fire_panel")
    models: tuple[str, ...] = ()  # empty: every model of those classes
    group: str = ""
    premises: str = ""
    device: str = ""
    places: tuple[Place, ...] = ()  # values of the label `place`; empty: wherever it hangs
    profile: Literal["", "immediate", "verified"] = ""  # "": of either
    immediate: bool = False  # bypasses every delay stage: call points, waterflow
    latched: bool = True
    schedule: Schedule | None = None  # outside it the rule decides nothing, and others of its id judge

    @property
    def apart(self) -> Each | None:
        """The points that it decides about apart, each under the rule's id and its own name."""
        within = self.when.of if isinstance(self.when, Coincidence) else self.when
        return within if isinstance(within, Each) else None

    @property
    def rank(self) -> int:
        """How specific its scope is: device 5, premises 4, group 3, places 2, models 1, class 0."""
        if self.device or self.premises or self.group:
            return 5 if self.device else 4 if self.premises else 3
        return 2 if self.places else 1 if self.models else 0

    @property
    def scope(self) -> Scope:
        """What it covers, comparable: two rules of one id and one scope contradict each other."""
        named = (self.device or self.premises or self.group, *sorted(set(self.models)))
        hours = "" if self.schedule is None else msgspec.json.encode(self.schedule).decode()
        return self.rank, (*named, *sorted(set(self.places)), self.profile, hours), tuple(sorted(set(self.device_classes)))

    def covers(self, spec: DeviceSpec) -> bool:
        """Whether the rule is meant for this model."""
        return spec.device_class in self.device_classes and (not self.models or spec.model in self.models)


class RuleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a rule file holds."""

    profile: Literal["immediate", "verified"]
    rules: tuple[Rule, ...]


def default_path() -> Path:
    """The rule file that ships with iotcore: profile `immediate`."""
    return Path(__file__).with_name("default_rules.yaml")


def load(path: Path) -> tuple[Rule, ...]:
    """Read and check a rule file.

    Raises:
        ConfigError: with every problem of the file.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([Problem(str(path), "", f"cannot be read: {error.strerror}")]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(str(path), "", f"is not YAML: {error}")]) from error
    return check(document, str(path))


def check(document: object, name: str) -> tuple[Rule, ...]:
    """Check a rule document that is already plain data; `name` stands in the errors.

    Raises:
        ConfigError: with every problem of the document.
    """
    rules = convert(document, RuleFile, name).rules
    problems = [problem for i, rule in enumerate(rules) for problem in _rule_problems(rule, name, f"rules[{i}]")]
    problems += _contradictions(rules, name)
    if not rules:
        problems.append(Problem(name, "rules", "is empty: no fire would ever be found"))
    if problems:
        raise ConfigError(problems)
    return rules


def mismatches(rules: Iterable[Rule], specs: Mapping[str, DeviceSpec], name: str = "rules") -> list[Problem]:
    """Where a rule would silently miss a device: it covers the model and names its point, but in another unit or kind."""
    problems = []
    for rule in rules:
        for spec in specs.values():
            for leaf in leaves(rule.when) if rule.covers(spec) else ():
                reason = misfit(leaf, spec)
                if leaf.point in spec.points and reason:
                    problems.append(Problem(name, f"{rule.id}.{leaf.point}", f"{reason} in spec {spec.model}"))
    return problems


def unknown(
    rules: Iterable[Rule], devices: Container[str], premises: Container[str], groups: Container[str], name: str = "rules"
) -> list[Problem]:
    """Rules whose scope is not there: such a rule covers nothing until it is."""
    problems = []
    for rule in rules:
        named = (("device", rule.device, devices), ("premises", rule.premises, premises), ("group", rule.group, groups))
        for what, key, known in named:
            if key and key not in known:
                text = f"there is no {what} {key!r}: the rule covers nothing until there is"
                problems.append(Problem(name, f"{rule.id}.{what}", text))
    return problems


def _rule_problems(rule: Rule, file: str, path: str) -> list[Problem]:
    problems = rule_condition_problems(rule.when, file, f"{path}.when")
    if not rule.device_classes:
        problems.append(Problem(file, f"{path}.device_classes", "is empty: the rule would cover nothing"))
    if rule.hazard == "fault" and rule.severity in {"alarm", "pre-alarm"}:
        problems.append(Problem(file, f"{path}.severity", "a fault is a trouble, never a fire"))
    if rule.severity in {"alarm", "pre-alarm"} and any(isinstance(leaf, Stale) for leaf in leaves(rule.when)):
        problems.append(Problem(file, f"{path}.when", "asks for a stale point: silence is a trouble, never a fire"))
    if sum(map(bool, (rule.group, rule.premises, rule.device, rule.places))) > 1:
        problems.append(Problem(file, path, "names more than one of group, premises, device and places"))
    if rule.immediate and rule.schedule is not None:
        problems.append(Problem(file, f"{path}.schedule", "what is immediate is so at every hour"))
    return problems + ([] if rule.schedule is None else schedules.problems(rule.schedule, file, f"{path}.schedule"))


def _contradictions(rules: Sequence[Rule], file: str) -> list[Problem]:
    """Two versions of a rule for the very same devices: which of them wins could not be told."""
    found: dict[tuple[str, Scope], int] = {}
    for rule in rules:
        found[rule.id, rule.scope] = found.get((rule.id, rule.scope), 0) + 1
    twice = sorted({rule_id for (rule_id, _), count in found.items() if count > 1})
    return [Problem(file, "rules", f"two rules have the id {rule_id!r} and the same scope") for rule_id in twice]
