"""Did you mean: what there is, when somebody named what there is not."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

SHOWN = 8


def near(name: str, there: Iterable[str]) -> str:
    """A sentence that names the nearest of what is there, or the first of them."""
    names = sorted(there)
    if not names:
        return "There is none."
    lowered = name.lower()
    alike = [one for one in names if lowered and lowered in one.lower()] or get_close_matches(name, names, SHOWN, 0.5)
    if alike:
        return f"Did you mean {', '.join(alike[:SHOWN])}?"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"There are: {', '.join(names[:SHOWN])}{more}."
