"""Reading a file that somebody else's program wrote: tolerant of how a number is spelled, never of what it is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from iotcore.errors import ConfigError, Problem
from iotcore.specs.importers.report import Findings

DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|ms|s|m|h))+\Z")
PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST_NUMBER = 40  # characters
MOST_BITS = 64  # of a whole number


def refuse_giants(document: Any, file: str) -> None:
    """No number of a device has more than 64 bits; what has is refused before anybody prints it.

    Raises:
        ConfigError: there is one.
    """
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise ConfigError([Problem(file, "", f"holds a whole number of {value.bit_length()} bits")])


def table(value: Any) -> dict[str, Any]:
    """`value` when it is a table with keys of text, else an empty one."""
    return {key: item for key, item in value.items() if isinstance(key, str)} if isinstance(value, dict) else {}


def tables(value: Any, where: str, findings: Findings) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each table of a list with its path; what is no table is noted. A single table stands for a list of one."""
    if value is None:
        return
    if not isinstance(value, list):
        value = [value]
    for number_, item in enumerate(value):
        path = f"{where}[{number_}]"
        if isinstance(item, dict):
            yield path, table(item)
        else:
            findings.lost(path, repr(item)[:80], "a table is expected here")


def number(value: Any) -> float | None:
    """A finite number, also one written as text; None for anything else."""
    if isinstance(value, str) and len(value) <= LONGEST_NUMBER:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def integer(value: Any) -> int | None:
    """A whole number, also one written as text ("10", "0x0A"); None for anything else, and for 10.0 too."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}|0x[0-9a-fA-F]{1,8}", value):
        return int(value, 0) if value.startswith("0x") else int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def boolean(value: Any) -> bool | None:
    """True or false, also written as text."""
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    return value if isinstance(value, bool) else None


def duration_s(value: Any) -> float | None:
    """Seconds of "1m30s", "250ms" or of a bare number of seconds; None when it is neither."""
    if isinstance(value, str) and len(value) <= LONGEST_NUMBER and DURATION.match(value):
        return sum(float(amount) * SECONDS[unit] for amount, unit in PART.findall(value))
    return number(value)


def leftovers(
    found: Mapping[str, Any], known: frozenset[str], reasons: Mapping[str, str], where: str, findings: Findings
) -> None:
    """Note every key that is not carried over: with its reason, or that nobody here knows it."""
    for key in found:
        if key not in known:
            findings.lost(where, key, reasons.get(key, "this importer does not know it"))
