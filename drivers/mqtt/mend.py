"""The slow way for payloads that a strict decode refuses: keep what can be kept, refuse the rest by name.

Firmware prints `nan` where a sensor broke; JSON has no such word, and a strict decoder drops the whole message, with the smoke
value beside it. Here the standard library's tolerant parser reads the payload, and each oddity costs only itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from iotcore.errors import Refused
from iotcore.wire import topics
from iotcore.wire.messages import Boot, ReadingMessage, Seq

LONGEST_INT = 18  # digits that surely fit 64 bits; a longer number is read as a float
NO_FAULTS: Mapping[str, str] = MappingProxyType({})


class Element(NamedTuple):
    """One message, perhaps mended: `faults` says per point what was wrong with its value, `clock_fault` with its time."""

    message: ReadingMessage
    faults: Mapping[str, str] = NO_FAULTS
    clock_fault: str = ""


class Unfit(NamedTuple):
    """An element of a batch (or a message of its own) that even mending does not save."""

    detail: str
    payload: bytes
    identities: tuple[tuple[str, int], ...] = ()


class _Identity(msgspec.Struct):
    """Of a message that is not accepted: whose number it bears."""

    boot: Boot
    seq: Seq


_identities = msgspec.json.Decoder(_Identity | list[_Identity])


def elements(payload: bytes) -> Iterator[Element | Unfit]:
    """The messages of a payload of at most 64 KiB, mended one by one.

    Raises:
        Refused: `not_json`, `batch_too_long`, or `schema` when it is neither an object nor an array.
    """
    document = _parsed(payload)
    if isinstance(document, dict):
        return iter([_element(document, payload)])
    if not isinstance(document, list):
        raise Refused("schema", f"expected an object or an array, got {type(document).__name__}")
    check_length(document)
    return (_element(each, None) for each in document)


def identities(payload: bytes) -> tuple[tuple[str, int], ...]:
    """The (boot, seq) of each message of a payload that is refused whole; none when one of them cannot be read."""
    try:
        found = _identities.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    return tuple((one.boot, one.seq) for one in (found if isinstance(found, list) else [found]))


def check_length(batch: Sequence[object]) -> None:
    """Raises Refused, `batch_too_long`, above the contract's limit."""
    if len(batch) > topics.MAX_BATCH:
        raise Refused("batch_too_long", f"{len(batch)} messages; at most {topics.MAX_BATCH}")


def _parsed(payload: bytes) -> Any:
    try:
        document = json.loads(payload.decode("utf-8"), parse_int=_integer)
        msgspec.json.encode(document)  # a lone surrogate is no text: nothing downstream could write it
    except (ValueError, RecursionError) as error:  # UnicodeError and JSONDecodeError are ValueErrors
        raise Refused("not_json", str(error)) from error
    return document


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= LONGEST_INT else float(digits)


def _element(document: Any, payload: bytes | None) -> Element | Unfit:
    faults: dict[str, str] = {}
    clock_fault = ""
    if isinstance(document, dict):
        document = dict(document)
        if isinstance(document.get("values"), dict):
            document["values"] = {name: _value(name, said, faults) for name, said in document["values"].items()}
        if type(document.get("ts")) not in (int, type(None)):
            document["ts"], clock_fault = None, "clock_unreadable"
    try:
        return Element(msgspec.convert(document, ReadingMessage), faults, clock_fault)
    except msgspec.ValidationError as error:
        kept = payload if payload is not None else msgspec.json.encode(document)
        return Unfit(str(error), kept, identities(kept))


def _value(name: str, said: Any, faults: dict[str, str]) -> Any:
    """The value if the contract has its kind; else None, with the reason in `faults`."""
    if isinstance(said, float) and not math.isfinite(said):
        faults[name] = "not_finite"
        return None
    if said is not None and not isinstance(said, (bool, int, float, str)):
        faults[name] = "wrong_type"
        return None
    return said
