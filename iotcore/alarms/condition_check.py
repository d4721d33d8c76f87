"""What contradicts itself in a condition, found before it is used. Pure."""

from __future__ import annotations

from iotcore.alarms.conditions import All, AnyOf, Condition, Rise, Threshold
from iotcore.errors import Problem


def condition_problems(condition: Condition, file: str, path: str) -> list[Problem]:
    """Everything that contradicts itself in a condition; `path` is where it stands in `file`."""
    if isinstance(condition, All | AnyOf):
        if not condition.of:
            return [Problem(file, f"{path}.of", "is empty")]
        return [p for i, part in enumerate(condition.of) for p in condition_problems(part, file, f"{path}.of[{i}]")]
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
