"""What a dynamic group asks of a device: a few typed kinds of condition, joined by all, any and not, checked when it is saved.

{"title": "Smoke detectors of the old town that need the update",
 "query": {"kind": "all", "of": [{"kind": "class", "is": ["fire_detector"]}, {"kind": "area", "is": ["p-1"]},
                                 {"kind": "firmware", "below": "2.1"}]}}

Pure. A condition on what is not known of a device (no premises, no reported firmware) does not hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from iotcore.errors import ConfigError, Problem
from iotcore.registry.directory import Binding, Directory, Premises
from iotcore.registry.records import State
from iotcore.specs.model import DeviceClass, DeviceSpec
from iotcore.strict import convert

MAX_PARTS = 100  # conditions of a query, joints included
MAX_DEPTH = 6  # joints within joints
MAX_NESTING = 2 * MAX_DEPTH + 4  # of the document: each joint is an object in a list
VERSION_PART = re.compile(r"\d+|[a-z]+")

Names = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...], Meta(min_length=1, max_length=1000)]
Version = Annotated[str, Meta(min_length=1, max_length=64)]
Title = Annotated[str, Meta(min_length=1, max_length=200)]


class OfClass(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="class", tag_field="kind"):
    """Its model is of one of these classes."""

    is_: Annotated[tuple[DeviceClass, ...], Meta(min_length=1)] = msgspec.field(name="is")


class OfModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="model", tag_field="kind"):
    """It is one of these models."""

    is_: Names = msgspec.field(name="is")


class InArea(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="area", tag_field="kind"):
    """It stands in one of these areas, or in one that lies in them."""

    is_: Names = msgspec.field(name="is")


class AtPremises(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="premises", tag_field="kind"):
    """It stands at one of these premises."""

    is_: Names = msgspec.field(name="is")


class OnFirmware(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, tag="firmware", tag_field="kind"
):
    """The firmware it last reported is one of `is`, before `below`, and `at_least` that one or later (`version_key`)."""

    is_: Annotated[tuple[Version, ...], Meta(max_length=100)] = msgspec.field(name="is", default=())
    below: Version | None = None
    at_least: Version | None = None


class InState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="state", tag_field="kind"):
    """It is in one of these states of its life."""

    is_: Annotated[tuple[State, ...], Meta(min_length=1)] = msgspec.field(name="is")


class Labelled(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, tag="label", tag_field="kind"
):
    """It has this label, with one of these values; without `is` with any."""

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    is_: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=100)] = msgspec.field(name="is", default=())


class Behind(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="parent", tag_field="kind"):
    """One of these gateways speaks for it."""

    is_: Names = msgspec.field(name="is")


class AtKeySite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="key_site", tag_field="kind"):
    """It stands at premises that are a key site, or, with `is: false`, at others."""

    is_: bool = msgspec.field(name="is", default=True)


class All(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="all", tag_field="kind"):
    """Every part holds."""

    of: tuple[Query, ...]


class AnyOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="any", tag_field="kind"):
    """At least one part holds."""

    of: tuple[Query, ...]


class Not(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="not", tag_field="kind"):
    """The part does not hold. Of a device whose firmware nobody knows, `not below 2.1` holds."""

    of: Query


Leaf = OfClass | OfModel | InArea | AtPremises | OnFirmware | InState | Labelled | Behind | AtKeySite
Query = OfClass | OfModel | InArea | AtPremises | OnFirmware | InState | Labelled | Behind | AtKeySite | All | AnyOf | Not


class GroupDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A group as it is written down."""

    title: Title
    query: Query


class Subject(NamedTuple):
    """What a query looks at."""

    binding: Binding
    premises: Premises | None
    firmware: str


Test = Callable[[Subject], bool]


def read(document: Any, name: str = "group") -> GroupDocument:
    """The document's own shape.

    Raises:
        ConfigError: with every unknown key, missing key, wrong value and empty joint.
    """
    if _too_deep(document):
        raise ConfigError([Problem(name, "query", f"is nested too deep: at most {MAX_DEPTH} joints within each other")])
    found = convert(document, GroupDocument, name)
    problems = list(_joints(found.query, name, "query", MAX_DEPTH))
    parts = sum(1 for _ in walk(found.query))
    if parts > MAX_PARTS:
        problems.append(Problem(name, "query", f"has {parts} parts, at most {MAX_PARTS}; give one condition several values"))
    if problems:
        raise ConfigError(problems)
    return found


def unknown(query: Query, directory: Directory, specs: Mapping[str, DeviceSpec], name: str = "group") -> list[Problem]:
    """What the query names that is not there: it would match nothing, and nobody would know."""
    return [
        Problem(name, path, f"no {what} {one!r}")
        for leaf, path in walk(query)
        for what, one in _named(leaf)
        if one not in {"model": specs, "area": directory.areas, "premises": directory.premises, "device": directory.devices}[what]
    ]


def walk(query: Query, path: str = "query") -> Iterator[tuple[Query, str]]:
    """A query and all its parts, each with its path."""
    yield query, path
    if isinstance(query, All | AnyOf):
        for i, part in enumerate(query.of):
            yield from walk(part, f"{path}.of[{i}]")
    elif isinstance(query, Not):
        yield from walk(query.of, f"{path}.of")


def compiled(query: Query, directory: Directory) -> Test:
    """The query as a function; it is made anew when the areas change."""
    match query:
        case All(of=parts):
            tests = [compiled(part, directory) for part in parts]
            return lambda one: all(test(one) for test in tests)
        case AnyOf(of=parts):
            tests = [compiled(part, directory) for part in parts]
            return lambda one: any(test(one) for test in tests)
        case Not(of=part):
            test = compiled(part, directory)
            return lambda one: not test(one)
        case _:
            return _leaf(query, directory)


@lru_cache(maxsize=10_000)
def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """What versions are ordered by: numbers as numbers (1.10 after 1.9), a word before its release (2.1-rc1 before 2.1).

    A leading v, what follows a + and zeros at the end do not count: v2.1.0 is 2.1. (Semantic Versioning 2.0.0, 9 to 11.)
    """
    found = VERSION_PART.findall(version.lower().partition("+")[0].removeprefix("v"))
    parts: list[tuple[int, int, str]] = []
    for part in found:
        if part.isdecimal():
            parts.append((2, int(part), ""))
        else:
            parts = [*_without_zeros(parts), (0, 0, part)]
    return (*_without_zeros(parts), (1, 0, ""))


def _without_zeros(parts: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    kept = list(parts)
    while kept and kept[-1] == (2, 0, ""):
        kept.pop()
    return kept


# What a condition with a list of names looks at; "" for what a device has not.
TOLD: dict[type, Callable[[Subject], str]] = {
    OfClass: lambda one: one.binding.spec.device_class,
    OfModel: lambda one: one.binding.spec.model,
    InArea: lambda one: one.premises.area if one.premises is not None else "",
    AtPremises: lambda one: one.binding.premises,
    InState: lambda one: one.binding.state,
    Behind: lambda one: one.binding.publisher if one.binding.publisher != one.binding.device else "",
}


def _leaf(leaf: Leaf, directory: Directory) -> Test:
    match leaf:
        case OnFirmware():
            return _firmware(leaf)
        case Labelled(name=name, is_=values):
            wanted = frozenset(values)
            return lambda one: name in one.binding.labels and (not wanted or one.binding.labels[name] in wanted)
        case AtKeySite(is_=key_site):
            return lambda one: one.premises is not None and one.premises.key_site is key_site
    names, told = frozenset[str](leaf.is_), TOLD[type(leaf)]
    if isinstance(leaf, InArea):
        names = frozenset(area for area in directory.areas if not names.isdisjoint(directory.upwards(area)))
    return lambda one: told(one) in names


def _firmware(leaf: OnFirmware) -> Test:
    exactly = frozenset(leaf.is_)
    below = None if leaf.below is None else version_key(leaf.below)
    at_least = None if leaf.at_least is None else version_key(leaf.at_least)

    @cache
    def fits(version: str) -> bool:
        key = version_key(version)
        return (not exactly or version in exactly) and (below is None or key < below) and (at_least is None or key >= at_least)

    return lambda one: bool(one.firmware) and fits(one.firmware)


def _named(query: Query) -> Iterator[tuple[str, str]]:
    kinds = {OfModel: "model", InArea: "area", AtPremises: "premises", Behind: "device"}
    if isinstance(query, OfModel | InArea | AtPremises | Behind):
        for name in query.is_:
            yield kinds[type(query)], name


def _joints(query: Query, name: str, path: str, depth: int) -> Iterator[Problem]:
    """Joints that join nothing, and conditions that ask nothing."""
    if isinstance(query, All | AnyOf | Not) and depth == 0:
        yield Problem(name, path, f"is nested too deep: at most {MAX_DEPTH} joints within each other")
    elif isinstance(query, All | AnyOf):
        if not query.of:
            yield Problem(name, f"{path}.of", "is empty")
        for i, part in enumerate(query.of):
            yield from _joints(part, name, f"{path}.of[{i}]", depth - 1)
    elif isinstance(query, Not):
        yield from _joints(query.of, name, f"{path}.of", depth - 1)
    elif isinstance(query, OnFirmware) and not (query.is_ or query.below or query.at_least):
        yield Problem(name, path, "needs at least one of is, below and at_least")


def _too_deep(document: Any) -> bool:
    """Whether a document is nested deeper than any sound one: nothing that recurses may look at it then."""
    level = [document]
    for _ in range(MAX_NESTING):
        level = [
            inner for one in level if isinstance(one, dict | list) for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True
