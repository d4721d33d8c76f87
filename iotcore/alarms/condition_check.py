"""What contradicts itself in a condition, found before it is used. Pure."""

from __future__ import annotations

from iotcore import schedule
from iotcore.alarms.conditions import (
    Coincidence,
    Condition,
    During,
    Each,
    Joint,
    Mean,
    Rise,
    Sum,
    Threshold,
    Verification,
    Wrapper,
    leaves,
)
from iotcore.errors import Problem

DEPTH_MAX = 6  # joints and wrappers within each other
LEAVES_MAX = 1_000  # of one rule; fewer where rules are saved


def rule_condition_problems(condition: Condition | Each, file: str, path: str) -> list[Problem]:
    """Everything that contradicts itself in a rule's whole condition; `path` is where it stands in `file`."""
    if isinstance(condition, Each):
        return []
    problems = _problems(condition, file, path, 1)
    if len(list(leaves(condition))) > LEAVES_MAX:
        problems.append(Problem(file, path, f"asks for more than {LEAVES_MAX} things"))
    return problems


def _problems(condition: Condition, file: str, path: str, depth: int) -> list[Problem]:  # noqa: PLR0911 - one for each kind
    if depth > DEPTH_MAX:
        return [Problem(file, path, f"is more than {DEPTH_MAX} deep")]
    if isinstance(condition, Joint):
        if not condition.of:
            return [Problem(file, f"{path}.of", "is empty")]
        return [p for i, part in enumerate(condition.of) for p in _problems(part, file, f"{path}.of[{i}]", depth + 1)]
    if isinstance(condition, Wrapper):
        within = [] if isinstance(condition.of, Each) else _problems(condition.of, file, f"{path}.of", depth + 1)
        return within + _wrapper_problems(condition, file, path, depth)
    if isinstance(condition, Threshold | Sum | Mean):
        return _threshold_problems(condition, file, path)
    if isinstance(condition, Rise) and condition.within_s < condition.mean_s + condition.base_s:
        return [Problem(file, f"{path}.within_s", "must be at least mean_s + base_s, or the two means overlap")]
    return []


def _wrapper_problems(condition: Wrapper, file: str, path: str, depth: int) -> list[Problem]:
    if isinstance(condition, During):
        return schedule.problems(condition.schedule, file, f"{path}.schedule")
    if isinstance(condition, Coincidence) and isinstance(condition.of, Each) and depth > 1:
        return [Problem(file, f"{path}.of", "each is the whole of a rule, or of a coincidence that is")]
    if isinstance(condition, Coincidence | Verification) and _delays(condition.of):
        return [Problem(file, f"{path}.of", "holds another coincidence or verification: their delays would add up")]
    return []


def _delays(condition: Condition | Each) -> bool:
    if isinstance(condition, Coincidence | Verification):
        return True
    if isinstance(condition, Joint):
        return any(_delays(part) for part in condition.of)
    return isinstance(condition, Wrapper) and _delays(condition.of)


def _threshold_problems(threshold: Threshold | Sum | Mean, file: str, path: str) -> list[Problem]:
    if isinstance(threshold, Sum | Mean) and not threshold.points:
        return [Problem(file, f"{path}.points", "is empty")]
    if (threshold.above is None) == (threshold.below is None):
        return [Problem(file, path, "needs exactly one of above and below")]
    if threshold.clear is None:
        return []
    if threshold.above is not None and threshold.clear > threshold.above:
        return [Problem(file, f"{path}.clear", "must not be above the threshold")]
    if threshold.below is not None and threshold.clear < threshold.below:
        return [Problem(file, f"{path}.clear", "must not be below the threshold")]
    return []
