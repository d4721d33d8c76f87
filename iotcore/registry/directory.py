"""Directory: the registry as the lanes see it: in memory, immutable between refreshes, never a query on the hot path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from iotcore.registry.landmarks import Cells
from iotcore.registry.response import DEFAULT, Response
from iotcore.specs.model import DeviceSpec

# Who speaks has shown a certificate to the broker: one that is only "registered" here was enrolled since the last poll, and a
# fire in its first moments must not be refused.
ACCEPTED_STATES = frozenset({"registered", "provisioned", "active"})
NO_LABELS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Area:
    """A province, a city or a ward; `parent` is the one it lies in, "" for none."""

    id: str
    kind: str
    name: str
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Premises:
    """A building a fire service knows. `account` is its number at the alarm receiving centre (DC-09, 3–16 hex digits)."""

    id: str
    name: str
    address: str
    latitude: float
    longitude: float
    account: str
    key_site: bool = False
    area: str = ""  # the smallest one known; "" for none
    risk_class: str = ""  # low, medium, high, very_high
    hydrants: str = ""


@dataclass(frozen=True, slots=True)
class Contact:
    """Whom a crew calls for a building; `key_holder`: who can open it."""

    id: str
    premises: str
    name: str
    role: str = ""
    phone: str = ""
    key_holder: bool = False


@dataclass(frozen=True, slots=True)
class Zone:
    """A part of a premises that a fire crew can find: floor and name; `number` is its number on the alarm's wire."""

    id: str
    premises: str
    number: int
    floor: str
    name: str


@dataclass(frozen=True, slots=True)
class Binding:
    """A device where it stands. `publisher` is the certificate name that may speak for it: itself or its parent gateway."""

    device: str
    title: str
    spec: DeviceSpec
    domain: str
    publisher: str
    state: str
    premises: str = ""
    zone: str = ""
    connection: str = ""  # Modbus devices: "tcp://host:port?device_id=1"
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS, hash=False)
    tested_ms: int | None = None  # when a test alarm of the unit that is there last came through, ms UTC
    location: str = ""  # where in the building, for whoever looks for it

    @property
    def accepted(self) -> bool:
        """Whether its messages count: a suspended or retired device's do not."""
        return self.state in ACCEPTED_STATES


@dataclass(frozen=True, slots=True)
class InTest:
    """The test mode of one device: a reading that says it is a test is proof, and goes to nobody (ms UTC; who began it)."""

    started_ms: int
    until_ms: int
    by: str

    def covers(self, at_ms: float) -> bool:
        """Whether it lasts at this moment: it ends by itself."""
        return self.started_ms <= at_ms < self.until_ms


class Target(NamedTuple):
    """What is disabled; `point` only of kind point, whose `subject` is the device."""

    kind: Literal["point", "device", "zone", "premises"]
    subject: str
    point: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}/{self.point}" if self.point else f"{self.kind} {self.subject}"


@dataclass(frozen=True, slots=True)
class Disablement:
    """Something out of service for a time (ms UTC): its fires go to nobody, and everybody sees it.

    `started_ms` is None while it waits for a second person: until then it is not in effect.
    """

    id: str
    target: Target
    premises: str
    reason: str
    by: str
    asked_ms: int
    until_ms: int
    started_ms: int | None
    confirmed_by: str = ""
    ended_ms: int | None = None
    ended_by: str = ""

    def covers(self, at_ms: float) -> bool:
        """Whether it is in effect at this moment: it ends by itself."""
        return self.started_ms is not None and self.ended_ms is None and at_ms < self.until_ms


@dataclass(frozen=True, slots=True)
class Walk:
    """A walk test of a zone, or with zone "" of a premises (ms UTC)."""

    id: str
    premises: str
    zone: str
    by: str
    started_ms: int
    until_ms: int
    ended_ms: int | None = None
    ended_by: str = ""

    def holds(self, binding: Binding) -> bool:
        """Whether a device is in it."""
        return bool(binding.premises) and binding.premises == self.premises and self.zone in ("", binding.zone)

    def covers(self, at_ms: float) -> bool:
        """Whether it lasts at this moment: it ends by itself."""
        return self.ended_ms is None and self.started_ms <= at_ms < self.until_ms


@dataclass(frozen=True, slots=True)
class Directory:
    """Everything the lanes need to know about who is where."""

    devices: Mapping[str, Binding] = field(default_factory=dict)
    premises: Mapping[str, Premises] = field(default_factory=dict)
    zones: Mapping[str, Zone] = field(default_factory=dict)
    areas: Mapping[str, Area] = field(default_factory=dict)
    in_test: Mapping[str, InTest] = field(default_factory=dict)  # nobody has ended them; their time may be up
    responses: Mapping[str, Response] = field(default_factory=dict)  # by premises, of those that have a plan
    disablements: Mapping[str, Disablement] = field(default_factory=dict)  # as `in_test`
    walks: Mapping[str, Walk] = field(default_factory=dict)  # as `in_test`
    contacts: Mapping[str, tuple[Contact, ...]] = field(default_factory=dict)  # by premises, key holders first
    landmarks: Cells = field(default_factory=dict)  # traffic signals and air stations, by where they stand
    routes: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)  # a driver's own: what it made of a topic

    def response(self, premises: str) -> Response:
        """The response plan of a premises; one without is immediate and tells every receiver."""
        return self.responses.get(premises, DEFAULT)

    def walked(self, binding: Binding, at_ms: float) -> Walk | None:
        """The walk test that a device is in at this moment."""
        return next((walk for walk in self.walks.values() if walk.holds(binding) and walk.covers(at_ms)), None)

    def upwards(self, area: str) -> Iterator[str]:
        """An area and all that it lies in, from the inside out."""
        seen: set[str] = set()
        while area in self.areas and area not in seen:
            seen.add(area)
            yield area
            area = self.areas[area].parent

    def areas_of(self, premises: str) -> frozenset[str]:
        """The areas that a building lies in, from its ward up; none for an unknown one, or one without an area."""
        known = self.premises.get(premises)
        return frozenset(self.upwards(known.area)) if known is not None else frozenset()
