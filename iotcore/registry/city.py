"""The city document: areas, premises, zones and devices as plain data, checked whole before any of it is stored.

{"areas":    [{"id": "p-1", "kind": "ward", "name": "…", "parent": "tp-1"}],
 "premises": [{"id": "truong-1", "name": "…", "address": "…", "latitude": 19.8, "longitude": 105.77, "account": "1001",
               "key_site": false, "area": "p-1", "risk_class": "high", "hydrants": "…"}],
 "contacts": [{"id": "truong-1-bv", "premises": "truong-1", "name": "…", "role": "…", "phone": "…", "key_holder": true}],
 "zones":    [{"id": "truong-1-z1", "premises": "truong-1", "number": 1, "floor": "1", "name": "…"}],
 "devices":  [{"id": "smoke-1", "title": "…", "model": "iotcore-smoke-heat", "premises": "truong-1", "zone": "truong-1-z1"},
              {"id": "air-1", "title": "…", "model": "vaisala-aqt530", "parent": "modbus-1",
               "connection": "tcp://10.0.0.7:502?device_id=1", "serial": "…", "location": "…", "labels": {"line": "2"}}]}

Pure: a document that adds to a registry is checked together with what the registry already holds.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from iotcore.errors import ConfigError, Problem
from iotcore.specs import firmware, repeat
from iotcore.specs.model import DeviceSpec
from iotcore.strict import convert
from iotcore.wire import modbus_address

Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="as a certificate name: no dot")]
Title = Annotated[str, Meta(min_length=1, max_length=200)]
Account = Annotated[str, Meta(pattern=r"^[0-9A-Fa-f]{3,16}$", description="account number of SIA DC-09: 3 to 16 hex digits")]
Serial = Annotated[
    str, Meta(pattern=r"^([A-Za-z0-9._-]{1,64})?$", description="as the maker printed it; one of its kind in a model")
]
LabelName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
LabelValue = Annotated[str, Meta(max_length=64)]
AreaKind = Literal["province", "city", "ward"]
RiskClass = Literal["", "low", "medium", "high", "very_high"]
LIES_IN: dict[str, tuple[str, ...]] = {"province": (), "city": ("province",), "ward": ("city", "province")}
MAX_VENDOR_NAME = 100  # characters; its topic must stay one that brokers take
FIRE_CLASSES = frozenset({"fire_detector", "fire_panel"})


class AreaEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A province, a city in it, or a ward of that; `parent` is what it lies in."""

    id: Id
    kind: AreaKind
    name: Title
    parent: str = ""


class PremisesEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A building with the address a crew is sent to. Degrees are WGS 84."""

    id: Id
    name: Title
    address: Title
    latitude: Annotated[float, Meta(ge=-90, le=90)]
    longitude: Annotated[float, Meta(ge=-180, le=180)]
    account: Account
    key_site: bool = False
    area: str = ""
    risk_class: RiskClass = ""
    hydrants: Annotated[str, Meta(max_length=2000, description="where the nearest are, and what a crew should know")] = ""


class ContactEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom a crew calls; a key holder can open the building."""

    id: Id
    premises: Id
    name: Title
    role: Annotated[str, Meta(max_length=200)] = ""
    phone: Annotated[str, Meta(pattern=r"^(\+?[0-9 .()-]{3,40})?$")] = ""
    email: Annotated[str, Meta(pattern=r"^([^@\s]+@[^@\s]+)?$", max_length=200)] = ""
    key_holder: bool = False


class ZoneEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a building that a crew can find."""

    id: Id
    premises: Id
    number: Annotated[int, Meta(ge=1, le=999)]
    floor: Annotated[str, Meta(max_length=40)]
    name: Title


class DeviceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device as a person registers it. `parent` is the gateway that speaks for it.

    `connection` is where a Modbus unit is, or what the vendor's side calls a vendor's MQTT device where that is not its id.
    """

    id: Id
    title: Title
    model: str
    parent: str = ""
    premises: str = ""
    zone: str = ""
    connection: str = ""
    serial: Serial = ""
    location: Annotated[str, Meta(max_length=200, description="where in the building, for whoever looks for it")] = ""
    latitude: Annotated[float, Meta(ge=-90, le=90)] | None = None
    longitude: Annotated[float, Meta(ge=-180, le=180)] | None = None
    labels: Annotated[dict[LabelName, LabelValue], Meta(max_length=16)] = {}


class City(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole document; every list may be empty."""

    areas: list[AreaEntry] = []
    premises: list[PremisesEntry] = []
    contacts: list[ContactEntry] = []
    zones: list[ZoneEntry] = []
    devices: list[DeviceEntry] = []


@dataclass(frozen=True, slots=True)
class Known:
    """What a registry already holds, as far as a document may refer to it or clash with it."""

    accounts: Mapping[str, str] = field(default_factory=dict)  # premises → account
    zones: Mapping[str, tuple[str, int]] = field(default_factory=dict)  # zone → premises, number
    devices: Mapping[str, str] = field(default_factory=dict)  # device → model
    areas: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # area → kind, parent
    serials: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # device → model, serial; of those that have one


def read(document: Any, name: str = "city") -> City:
    """The document's own shape.

    Raises:
        ConfigError: with every unknown key, missing key and wrong value.
    """
    return convert(document, City, name)


class Fault(NamedTuple):
    """What is wrong with entry number `number` of a kind (`devices`; from 0), at `key`."""

    kind: str
    number: int
    key: str
    reason: str


def check(city: City, specs: Mapping[str, DeviceSpec], known: Known, name: str = "city") -> None:
    """Whether everything that the document refers to exists and fits.

    Raises:
        ConfigError: with every problem and its path, such as `devices[3].parent`.
    """
    found = [Problem(name, f"{fault.kind}[{fault.number}].{fault.key}", fault.reason) for fault in faults(city, specs, known)]
    if found:
        raise ConfigError(found)


def faults(city: City, specs: Mapping[str, DeviceSpec], known: Known) -> list[Fault]:
    """Everything in the document that refers to nothing, stands twice, clashes, or does not fit."""
    areas = dict(known.areas) | {entry.id: (entry.kind, entry.parent) for entry in city.areas}
    accounts = dict(known.accounts) | {entry.id: entry.account.upper() for entry in city.premises}
    zones = dict(known.zones) | {entry.id: (entry.premises, entry.number) for entry in city.zones}
    serials = dict(known.serials) | {entry.id: (entry.model, entry.serial) for entry in city.devices}
    serials = {one: serial for one, serial in serials.items() if serial[1]}
    models = dict(known.devices) | {entry.id: entry.model for entry in city.devices}
    found = [fault for kind in City.__struct_fields__ for fault in _twice(kind, getattr(city, kind))]
    found += _areas(city, areas)
    found += _clashes("premises", "account", accounts, known.accounts, city.premises)
    found += _clashes("zones", "number", zones, known.zones, city.zones)
    for kind in ("zones", "contacts"):
        entries: list[Any] = getattr(city, kind)
        found += [
            Fault(kind, i, "premises", f"no premises {entry.premises!r}")
            for i, entry in enumerate(entries)
            if entry.premises not in accounts
        ]
    found += _clashes("devices", "serial", serials, known.serials, city.devices)
    for i, entry in enumerate(city.devices):
        found += [Fault("devices", i, key, reason) for key, reason in _device(entry, specs, models, accounts, zones)]
    return found


def _areas(city: City, areas: Mapping[str, tuple[str, str]]) -> Iterable[Fault]:
    """What is wrong with the areas, and with premises that lie in none of them. Kinds go down, so there is no circle."""
    for i, entry in enumerate(city.areas):
        above = areas.get(entry.parent, ("", ""))[0]
        if entry.parent and entry.parent not in areas:
            yield Fault("areas", i, "parent", f"no area {entry.parent!r}")
        elif entry.parent and above not in LIES_IN[entry.kind]:
            allowed = " or a ".join(LIES_IN[entry.kind]) or "nothing"
            yield Fault("areas", i, "parent", f"{entry.parent!r} is a {above}; a {entry.kind} lies in a {allowed}")
    for i, building in enumerate(city.premises):
        if building.area and building.area not in areas:
            yield Fault("premises", i, "area", f"no area {building.area!r}")


def _twice(kind: str, entries: Sequence[Any]) -> Iterable[Fault]:
    seen: set[str] = set()
    for i, entry in enumerate(entries):
        if entry.id in seen:
            yield Fault(kind, i, "id", f"{entry.id!r} stands twice in this document")
        seen.add(entry.id)


def _clashes(kind: str, key: str, values: Mapping[str, Any], there: Mapping[str, Any], entries: Sequence[Any]) -> Iterable[Fault]:
    """Entries whose value somebody else has, or has until the document is stored: two buildings with one account."""
    owners: dict[Any, list[str]] = {}
    for one, value in values.items():
        owners.setdefault(value, []).append(one)
    holders = {value: one for one, value in there.items() if values.get(one) != value}  # who gives a value away
    for i, entry in enumerate(entries):
        if entry.id not in values:
            continue
        value = values[entry.id]
        others = [one for one in owners[value] if one != entry.id] if len(owners[value]) > 1 else ()
        if others:
            yield Fault(kind, i, key, f"{entry.id!r} has the same {key} as {min(others)!r}")
        elif value in holders and holders[value] != entry.id:
            yield Fault(kind, i, key, f"{holders[value]!r} still has this {key}: give it another in a document of its own, first")


def _device(
    entry: DeviceEntry,
    specs: Mapping[str, DeviceSpec],
    models: Mapping[str, str],
    accounts: Mapping[str, str],
    zones: Mapping[str, tuple[str, int]],
) -> Iterable[tuple[str, str]]:
    """What is wrong with one device: (key, reason) each."""
    if (entry.latitude is None) != (entry.longitude is None):
        yield "longitude" if entry.longitude is None else "latitude", "missing: a place needs both"
    spec = specs.get(entry.model)
    if spec is None:
        yield "model", _no_spec(entry.model, tuple(sorted(specs)))
    else:
        yield from _as_its_spec_asks(entry, spec)
    if entry.parent:
        yield from _parent(entry, specs, models)
    if entry.premises and entry.premises not in accounts:
        yield "premises", f"no premises {entry.premises!r}"
    if entry.zone and entry.zone not in zones:
        yield "zone", f"no zone {entry.zone!r}"
    elif entry.zone and zones[entry.zone][0] != entry.premises:
        yield "zone", f"{entry.zone!r} belongs to premises {zones[entry.zone][0]!r}, not to {entry.premises!r}"


@cache
def _no_spec(model: str, models: tuple[str, ...]) -> str:
    """All that there are would fill a page for each wrong row."""
    near = difflib.get_close_matches(model, models, n=3)
    return f"no spec for {model!r}; " + (f"near it: {', '.join(near)}" if near else f"there are {len(models)}: docs/devices.md")


def _as_its_spec_asks(entry: DeviceEntry, spec: DeviceSpec) -> Iterable[tuple[str, str]]:
    if spec.device_class in FIRE_CLASSES and not entry.premises:
        yield "premises", "missing: a fire device stands in a building that a crew can be sent to"
    if spec.device_class == "gateway" and entry.parent:
        yield "parent", "a gateway speaks for itself"
    if spec.protocol == "modbus" and not entry.parent:
        yield "parent", "missing: a Modbus unit needs the gateway that polls it"
    if spec.protocol == "modbus" and (reason := _connection(entry, spec)):
        yield "connection", reason
    if spec.mqtt is not None and entry.connection and (reason := _vendor_name(entry.connection, spec)):
        yield "connection", reason
    if spec.protocol == "canonical" and entry.connection:
        yield "connection", "only a Modbus unit has one, and a vendor's MQTT device that its side calls otherwise"


def _vendor_name(name: str, spec: DeviceSpec) -> str:
    """What is wrong with the name that the vendor's side gives a device; "" when nothing is."""
    if name != name.strip() or not name.isprintable() or len(name) > MAX_VENDOR_NAME:
        return f"a vendor's name has 1 to {MAX_VENDOR_NAME} visible characters"
    if spec.mqtt is not None and spec.mqtt.format == "own" and any(sign in name for sign in "/+#"):
        return "the vendor's name is one level of a topic: no /, + or #"
    return ""


def _connection(entry: DeviceEntry, spec: DeviceSpec) -> str:
    """What is wrong with the connection string of a Modbus unit; "" when nothing is."""
    try:
        address = modbus_address.parse(entry.connection)
        repeat.narrow(spec, dict(address.ranges))
    except ValueError as error:
        return str(error)
    if address.firmware and firmware.layout(spec, address.firmware) is None:
        return f"firmware={address.firmware}: {spec.model} knows no such version"
    return ""


def _parent(entry: DeviceEntry, specs: Mapping[str, DeviceSpec], models: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    if entry.parent == entry.id:
        yield "parent", "a device cannot be its own parent"
    elif entry.parent not in models:
        yield "parent", f"no device {entry.parent!r}"
    else:
        parent = specs.get(models[entry.parent])
        if parent is not None and parent.device_class != "gateway":
            yield "parent", f"{entry.parent!r} is a {parent.device_class}, not a gateway"
