"""Fire rules as data: a few typed kinds of condition, joined by all and any, checked whole before they are used.

A rule file is YAML: `profile` and a list of `rules`. Every rule names the source of its numbers. Nothing here looks at a reading;
`engine` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml
from msgspec import Meta

from iotcore.errors import ConfigError, Problem
from iotcore.journal.records import Severity
from iotcore.specs.model import DeviceClass, DeviceSpec, Name
from iotcore.strict import convert

Hazard = Literal["smoke", "heat", "co", "manual", "flame", "waterflow", "fire", "fault"]
RuleId = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Seconds = Annotated[float, Meta(ge=0, le=3600)]
Count = Annotated[int, Meta(ge=1, le=20)]


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="threshold", tag_field="kind"):
    """The mean of the newest readings is at or above `above` (or at or below `below`), until it passes `clear` on its way back.

    The mean takes every good reading of the last `mean_s` seconds and at least the newest `readings`; with fewer there is
    no verdict.
    """

    point: Name
    unit: str
    above: float | None = None
    below: float | None = None
    clear: float | None = None  # hysteresis; without it the threshold itself
    mean_s: Seconds = 0.0
    readings: Count = 1


class Rise(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="rise", tag_field="kind"):
    """The point climbs by `by` (in its unit) within `within_s`: newest mean minus mean of the window's oldest `base_s`.

    The newest mean is formed as for a threshold. A shifted zero does not matter; a window with few readings errs towards a
    smaller rise.
    """

    point: Name
    unit: str
    by: Annotated[float, Meta(gt=0)]
    within_s: Annotated[float, Meta(gt=0, le=3600)]
    mean_s: Seconds = 0.0
    base_s: Seconds = 0.0
    readings: Count = 1


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="state", tag_field="kind"):
    """A two-valued point says `is`: the detector's own alarm, a pressed call point."""

    point: Name
    is_: bool = msgspec.field(default=True, name="is")


class Each(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="each", tag_field="kind"):
    """Every two-valued point whose name matches `points` (`*` stands for anything) decides for itself when it says `is`.

    For panels: one rule for the fire of 1,590 detectors, each raised and reset apart. It is a rule's whole condition.
    """

    points: Annotated[str, Meta(pattern=r"^[a-z0-9_*]{1,40}$")]
    is_: bool = msgspec.field(default=True, name="is")

    def of(self, spec: DeviceSpec) -> Iterator[State]:
        """A condition for each point of a model that is meant."""
        for name, point in spec.points.items():
            if point.kind == "bool" and fnmatchcase(name, self.points):
                yield State(point=name, is_=self.is_)


class All(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="all", tag_field="kind"):
    """Every part holds at the same time; each part judged by its newest readings."""

    of: tuple[Condition, ...]


class AnyOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="any", tag_field="kind"):
    """At least one part holds; the first that does gives the reason."""

    of: tuple[Condition, ...]


Leaf = Threshold | Rise | State
Condition = Threshold | Rise | State | All | AnyOf


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When to decide what about which devices. A latched rule decides once until it is reset."""

    id: RuleId
    hazard: Hazard
    severity: Severity
    when: Condition | Each
    source: Annotated[str, Meta(min_length=1, description="where the numbers come from")]
    device_classes: tuple[DeviceClass, ...] = ("fire_detector", "fire_panel")
    models: tuple[str, ...] = ()  # empty: every model of those classes
    immediate: bool = False  # bypasses every delay stage: call points, waterflow
    latched: bool = True

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
    """Check a rule document that is already plain data; `name` stands in the errors."""
    rules = convert(document, RuleFile, name).rules
    problems = [problem for i, rule in enumerate(rules) for problem in _rule_problems(rule, name, f"rules[{i}]")]
    ids = [rule.id for rule in rules]
    problems += [Problem(name, "rules", f"two rules have the id {i!r}") for i in sorted({i for i in ids if ids.count(i) > 1})]
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


def misfit(leaf: Leaf, spec: DeviceSpec) -> str:
    """Why a leaf cannot judge this model's point; "" if it can."""
    point = spec.points.get(leaf.point)
    if point is None:
        return "no such point"
    if isinstance(leaf, State):
        return "" if point.kind == "bool" else f"needs a bool point, it is {point.kind}"
    if point.kind != "number":
        return f"needs a number, the point is {point.kind}"
    return "" if point.unit == leaf.unit else f"is judged in {leaf.unit!r}, the point is in {point.unit!r}"


def leaves(condition: Condition | Each) -> Iterator[Leaf]:
    """The conditions that look at one point that they name, in the order they are written."""
    if isinstance(condition, Each):
        return
    if isinstance(condition, All | AnyOf):
        for part in condition.of:
            yield from leaves(part)
    else:
        yield condition


def _rule_problems(rule: Rule, file: str, path: str) -> list[Problem]:
    problems = [] if isinstance(rule.when, Each) else _condition_problems(rule.when, file, f"{path}.when")
    if not rule.device_classes:
        problems.append(Problem(file, f"{path}.device_classes", "is empty: the rule would cover nothing"))
    if rule.hazard == "fault" and rule.severity != "trouble":
        problems.append(Problem(file, f"{path}.severity", "a fault is a trouble, never a fire"))
    return problems


def _condition_problems(condition: Condition, file: str, path: str) -> list[Problem]:
    if isinstance(condition, All | AnyOf):
        if not condition.of:
            return [Problem(file, f"{path}.of", "is empty")]
        return [p for i, part in enumerate(condition.of) for p in _condition_problems(part, file, f"{path}.of[{i}]")]
    if isinstance(condition, Threshold):
        return _threshold_problems(condition, file, path)
    if isinstance(condition, Rise) and condition.within_s < condition.mean_s + condition.base_s:
        return [Problem(file, f"{path}.within_s", "must be at least mean_s + base_s, or the two means overlap")]
    return []


def _threshold_problems(threshold: Threshold, file: str, path: str) -> list[Problem]:
    if (threshold.above is None) == (threshold.below is None):
        return [Problem(file, path, "needs exactly one of above and below")]
    if threshold.clear is None:
        return []
    if threshold.above is not None and threshold.clear > threshold.above:
        return [Problem(file, f"{path}.clear", "must not be above the threshold")]
    if threshold.below is not None and threshold.clear < threshold.below:
        return [Problem(file, f"{path}.clear", "must not be below the threshold")]
    return []
