"""A spec is for one model; a file may read several units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from iotcore.specs.importers.draft import Draft
from iotcore.specs.importers.report import shown

T = TypeVar("T")
MOST_SHOWN = 20


def choose(draft: Draft, units: Sequence[tuple[str, T]], wanted: str, what: str) -> T:
    """The unit that was asked for, by its name (or its first or last part), or the only one there is.

    Raises:
        ConfigError: there is none, or several to choose from.
    """
    if not units:
        raise draft.refuse(f"holds no {what}")
    found = [unit for name, unit in units if not wanted or wanted == name or wanted in name.rsplit("/", 1)]
    names = ", ".join(repr(shown(name)) for name, _ in units[:MOST_SHOWN])
    if not found:
        raise draft.refuse(f"has no unit {wanted!r}; there are: {names}")
    if len(found) > 1:
        raise draft.refuse(f"has several units, and a spec is for one: say which with --unit; there are: {names}")
    if len(units) > 1:
        draft.findings.lost("", "the other units", "a spec is for one model; import each model once")
    return found[0]
