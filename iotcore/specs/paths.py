"""Paths into a vendor's JSON: keys joined by dots, `[2]` an element of an array, `[key=text]` the first element that says so."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

PART = re.compile(r"\.?([^.\[\]=]+)|\[(0|[1-9][0-9]{0,3})\]|\[([^.\[\]=]+)=([^\[\]=]*)\]")
MISSING = object()
Step = str | int | tuple[str, str]


@lru_cache(maxsize=4096)
def steps(path: str) -> tuple[Step, ...]:
    """The steps of a path.

    Raises:
        ValueError: it is no path.
    """
    found: list[Step] = []
    at = 0
    while at < len(path):
        part = PART.match(path, at)
        if part is None or (part[1] is not None and (path[at] == ".") != bool(found)):
            raise ValueError(f"{path!r} is no path: write keys joined by dots, [2] or [key=text]")
        found.append(part[1] if part[1] is not None else int(part[2]) if part[2] is not None else (part[3], part[4]))
        at = part.end()
    if not found:
        raise ValueError("is empty")
    return tuple(found)


def find(document: Any, path: str) -> Any:
    """What stands at `path`, or MISSING."""
    for step in steps(path):
        document = _next(document, step)
        if document is MISSING:
            return MISSING
    return document


def put(document: dict[str, Any], path: str, said: Any) -> None:
    """Make `said` stand at `path`, with whatever lies on the way; the inverse of `find`, for simulated devices."""
    way = steps(path)
    here: Any = document
    for step, following in zip(way, (*way[1:], None), strict=True):
        fresh = said if following is None else {} if isinstance(following, str) else []
        here = _step_into(here, step, fresh, last=following is None)


def _next(document: Any, step: Step) -> Any:
    if isinstance(step, str):
        return document.get(step, MISSING) if isinstance(document, dict) else MISSING
    if not isinstance(document, list):
        return MISSING
    if isinstance(step, int):
        return document[step] if step < len(document) else MISSING
    return next((each for each in document if isinstance(each, dict) and each.get(step[0]) == step[1]), MISSING)


def _step_into(here: Any, step: Step, fresh: Any, *, last: bool) -> Any:
    if isinstance(step, str):
        if last or step not in here:
            here[step] = fresh
        return here[step]
    if isinstance(step, int):
        here.extend(None for _ in range(step + 1 - len(here)))
        if last or here[step] is None:
            here[step] = fresh
        return here[step]
    found = _next(here, step)
    if found is MISSING:
        found = {step[0]: step[1]}
        here.append(found)
    return found
