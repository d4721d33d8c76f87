"""A cell as the value of a field: what people type, and what spreadsheets make of it.

A spreadsheet turns an account into a number, a zone into a date, a long serial into 1.2E+15: what cannot be undone for certain is
refused with what to do. Pure.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from iotcore.registry.sheets import words
from iotcore.registry.text import tidy, unseen

EXACT = 10**15  # whole numbers of a spreadsheet are exact below: it keeps 15 digits
AS_TEXT = "format the column as text and type it again"
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE)
COMMA = re.compile(r"([+-]?\d+),(\d+)")
WHOLE = re.compile(r"([+-]?\d+)(\.0+)?")
SCIENTIFIC = re.compile(r"\d(?:[.,]\d+)?E\+\d{1,3}")
PLAIN_LABEL = re.compile(r"[^;=\s{}\"'](?:[^;=\n\r]*[^;=\s])?")


class Unfit(ValueError):
    """A cell that cannot be the value; says why and what to do."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A cell that computes."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Broken:
    """A cell that shows an error, such as #REF!."""

    text: str

    def __str__(self) -> str:
        return self.text


Cell = str | int | float | bool | dt.date | dt.time | dt.timedelta | Formula | Broken | None


@cache
def described(of: Any) -> tuple[Any, float | None]:
    """A field's type without what surrounds it, and the largest number that it may be."""
    info: Any = inspect.type_info(of)
    while isinstance(info, inspect.Metadata | inspect.UnionType):
        if isinstance(info, inspect.Metadata):
            info = info.type
        else:
            info = next(part for part in info.types if not isinstance(part, inspect.NoneType))
    return info, getattr(info, "le", None)


def value(cell: Cell, of: Any) -> Any:
    """The value of a field of type `of`.

    Raises:
        Unfit: it cannot be told for certain, or the cell is empty.
    """
    if isinstance(cell, Formula | Broken | dt.date | dt.time | dt.timedelta | None):
        raise Unfit(_spoilt(cell))
    info, largest = described(of)
    if isinstance(info, inspect.BoolType):
        return _truth(cell)
    if isinstance(info, inspect.IntType):
        return _whole(cell)
    if isinstance(info, inspect.FloatType):
        return _number(cell, largest)
    text = _text(cell)
    if isinstance(info, inspect.LiteralType):
        return _one_of(text, tuple(str(one) for one in info.values))
    if isinstance(info, inspect.DictType):
        return _pairs(text)
    if getattr(info, "pattern", None):
        _as_typed(text)
    return text


def shown(given: Any) -> str:
    """A cell as text; `value` reads it back."""
    if isinstance(given, str):
        return given
    if given is None:
        return ""
    if isinstance(given, bool):
        return "true" if given else "false"
    return repr(given) if isinstance(given, float) else str(given)


def cell_of(given: Any) -> Any:
    """A value as a cell: text, number, bool or None."""
    return _said(given) if isinstance(given, dict) else given


def _spoilt(cell: Formula | Broken | dt.date | dt.time | dt.timedelta | None) -> str:
    if cell is None:
        return "empty; it must be given"
    if isinstance(cell, Formula):
        return "a formula; put its value there instead"
    if isinstance(cell, Broken):
        return "the spreadsheet shows an error there; mend it"
    return f"the spreadsheet has made a date or time of it; {AS_TEXT}"


def _text(cell: str | float) -> str:
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    if isinstance(cell, int | float):
        if not math.isfinite(cell) or abs(cell) >= EXACT:
            raise Unfit(f"a number too long for a spreadsheet to keep its last digits; {AS_TEXT}")
        return str(int(cell)) if cell == int(cell) else repr(cell)
    text: str = tidy(cell)
    if reason := unseen(text):
        raise Unfit(reason)
    return text


def _as_typed(text: str) -> None:
    """Refuse what a spreadsheet makes of a number that is a name."""
    if SCIENTIFIC.fullmatch(text):
        raise Unfit(f"a spreadsheet has shortened a long number; {AS_TEXT}")
    if re.fullmatch(r"\d+\.0+", text):
        raise Unfit(f"a spreadsheet has made a number of it; {AS_TEXT}")


def _truth(cell: str | float) -> bool:
    if isinstance(cell, bool):
        return cell
    folded = words.fold(_text(cell))
    if folded in words.YES:
        return True
    if folded in words.NO:
        return False
    raise Unfit("neither yes nor no; write true or false (có, không)")


def _whole(cell: str | float) -> int:
    found = WHOLE.fullmatch(_text(cell).replace("−", "-"))
    if found is None or isinstance(cell, bool):
        raise Unfit("no whole number")
    return int(found[1])


def _number(cell: str | float, largest: float | None) -> float:
    if isinstance(cell, bool):
        raise Unfit("no number")
    if isinstance(cell, int | float):
        if not math.isfinite(cell):
            raise Unfit("no number")
        return float(cell)
    text = _text(cell).replace("−", "-")
    if NUMBER.fullmatch(text):
        return float(text)
    comma = COMMA.fullmatch(text)
    if comma is None:
        raise Unfit("no number; write it with digits and a decimal point")
    whole, fraction = comma.groups()
    thousands = len(fraction) == len("000") and len(whole.lstrip("+-")) <= len("000")
    if thousands and (largest is None or abs(int(whole + fraction)) <= largest):
        raise Unfit(f"may be {whole}.{fraction} or {whole}{fraction}; write it with a decimal point")
    return float(f"{whole}.{fraction}")


def _one_of(text: str, allowed: tuple[str, ...]) -> str:
    found = words.literal(text, allowed)
    if found is None:
        raise Unfit(f"one of: {', '.join(word for word in allowed if word)}")
    return found


def _pairs(text: str) -> dict[str, Any]:
    """`line=2; room=101`, or JSON for values with a ; or = in them."""
    if text.startswith("{"):
        try:
            found: dict[str, Any] = msgspec.json.decode(text, type=dict[str, str])
        except msgspec.DecodeError as error:
            raise Unfit(f"neither name=value; name=value nor JSON ({error})") from error
        return found
    pairs: dict[str, Any] = {}
    for part in text.split(";"):
        name, equals, said = part.partition("=")
        if not part.strip():
            continue
        if not equals or name.strip() in pairs:
            raise Unfit(f"{part.strip()!r}: each is name=value, once, with ; between them")
        pairs[name.strip()] = said.strip()
    return pairs


def _said(pairs: dict[str, Any]) -> str:
    if all(PLAIN_LABEL.fullmatch(said) for said in pairs.values()):
        return "; ".join(f"{name}={said}" for name, said in sorted(pairs.items()))
    return json.dumps(pairs, sort_keys=True, ensure_ascii=False, separators=(",", ":")) if pairs else ""
