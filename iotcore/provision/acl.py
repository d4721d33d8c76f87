"""Who may do what on which broker: one table. The Mosquitto acl file, the embedded broker and docs/access.md are made from it.

Who may connect at all is not decided here but by the trust anchors of the listener; a name is the CN of a certificate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from iotcore.wire import topics
from iotcore.wire.topics import DEVICE_NAME

REPLICAS = 4  # svc.fire.1.in … svc.fire.4.in; a name without a certificate lets nobody in
SERVICE_NAME = re.compile(r"svc\.[a-z]+\.[1-9][0-9]?\.[a-z]+\Z")


class BrokerName(str, Enum):
    """The two brokers; a flood on one cannot delay the other."""

    FIRE = "fire"
    FIELD = "field"


class Access(str, Enum):
    """What a grant allows, in Mosquitto's own words. `read` covers delivery; asking for more than is granted yields nothing."""

    READ = "read"
    WRITE = "write"
    READWRITE = "readwrite"
    DENY = "deny"  # comes before every grant

    def covers(self, wanted: Access) -> bool:
        """Whether this grant includes `wanted`."""
        return self is wanted or self is Access.READWRITE


@dataclass(frozen=True, slots=True)
class Grant:
    """One line of the table; `%u` in the filter stands for the name of whoever is connected."""

    access: Access
    filter: str

    def of(self, user: str) -> Grant:
        """This grant as `user` has it."""
        return Grant(self.access, self.filter.replace("%u", user))


@dataclass(frozen=True, slots=True)
class Role:
    """A service's connection to one broker. `user` holds N for the number of the replica."""

    user: str
    broker: BrokerName
    purpose: str
    grants: tuple[Grant, ...]

    def names(self) -> list[str]:
        """The certificate names of all replicas."""
        return [self.user.replace("N", str(number)) for number in range(1, REPLICAS + 1)]


def _reads(*filters: str) -> tuple[Grant, ...]:
    return tuple(Grant(Access.READ, text) for text in filters)


def _writes(*filters: str) -> tuple[Grant, ...]:
    return tuple(Grant(Access.WRITE, text) for text in filters)


UP = "iot/v1/+/+/up/#"  # everything that a device can say
DRILLS = f"{topics.DRILL}/+/+"  # what drills say in a fire device's place
_FIELD = ("air", "water", "traffic", "gateway")
_DOCTOR = (*_reads("$SYS/broker/version"), Grant(Access.READWRITE, "iotcore/doctor"))
_HEARTBEAT = Grant(Access.READWRITE, "iotcore/heartbeat/%u")  # a consumer's message to itself (drivers.mqtt.connection)

LANES = ("svc.fire.", "svc.telemetry.")  # they hear vendors' devices too, on topics that the registry's bindings give

# Every certificate that can connect, on both brokers.
EVERYBODY = (*_writes("iot/v1/+/%u/up/#"), *_reads("iot/v1/+/%u/down/#"))

ROLES = (
    Role(
        "svc.fire.N.in",
        BrokerName.FIRE,
        "the fire lane: whatever devices say there (what is in the wrong place is refused and shown), receipts out",
        (*_reads(UP, DRILLS), *_writes("iot/v1/fire/+/down/receipt/+"), _HEARTBEAT),
    ),
    Role(
        "svc.telemetry.N.fire",
        BrokerName.FIRE,
        "fire values for the telemetry store; the fire lane owns their receipts",
        (*_reads("iot/v1/fire/+/up/#"), _HEARTBEAT),
    ),
    Role(
        "svc.drill.N.out",
        BrokerName.FIRE,
        "drills: it speaks in the place of a fire device, and what it does not mark as a test is refused",
        _writes(f"{topics.DRILL}/%u/+"),
    ),
    Role("svc.keeper.N.fire", BrokerName.FIRE, "commands to fire devices", _writes("iot/v1/fire/+/down/command/+")),
    Role("svc.doctor.N.fire", BrokerName.FIRE, "iotcore doctor: a message to itself, and the broker's version", _DOCTOR),
    Role(
        "svc.telemetry.N.field",
        BrokerName.FIELD,
        "the bulk lane: whatever devices say there (what is in the wrong place is refused and shown), receipts out",
        (*_reads(UP), *_writes(*(f"iot/v1/{domain}/+/down/receipt/+" for domain in _FIELD)), _HEARTBEAT),
    ),
    Role(
        "svc.telemetry.N.stray",
        BrokerName.FIELD,
        "with several telemetry workers: what is said in no domain of theirs, which is refused and shown",
        (*_reads(UP), _HEARTBEAT, *(Grant(Access.DENY, f"iot/v1/{domain}/#") for domain in _FIELD)),
    ),
    Role(
        "svc.keeper.N.field",
        BrokerName.FIELD,
        "commands to field devices",
        _writes(*(f"iot/v1/{domain}/+/down/command/+" for domain in _FIELD)),
    ),
    Role("svc.doctor.N.field", BrokerName.FIELD, "iotcore doctor: a message to itself, and the broker's version", _DOCTOR),
)


def acl_file(broker: BrokerName, heard: Sequence[str] = ()) -> str:
    """The Mosquitto acl file of `broker`; our lanes also read `heard`, the topics of vendors' devices in the registry."""
    lines = ["# Generated from iotcore/provision/acl.py; changes here are lost at the next start."]
    lines += [f"pattern {grant.access.value} {grant.filter}" for grant in EVERYBODY]
    for role in ROLES:
        if role.broker is broker:
            for name in role.names():
                grants = [one.of(name) for one in role.grants]
                grants += _reads(*heard) if role.user.startswith(LANES) else ()
                lines += ["", f"user {name}", *(f"topic {one.access.value} {one.filter}" for one in grants)]
    return "\n".join([*lines, ""])


def allowed(broker: BrokerName, user: str, access: Access, topic: str) -> bool:
    """Whether `user` may write to, or be handed a message of, `topic`: what Mosquitto decides from `acl_file`."""
    found = [grant.access for grant in _grants(broker, user) if matches(grant.filter, topic)]
    return Access.DENY not in found and any(one.covers(access) for one in found)


def may_subscribe(broker: BrokerName, user: str, wanted: str) -> bool:
    """Whether everything that the filter `wanted` can match may be read by `user`, but for what is denied to it one by one.

    Stricter than Mosquitto, which grants any subscription and then withholds what is not allowed.
    """
    return any(grant.access.covers(Access.READ) and _within(wanted, grant.filter) for grant in _grants(broker, user))


def matches(topic_filter: str, topic: str) -> bool:
    """MQTT 3.1.1, 4.7: whether `topic` (which holds no wildcard) is matched by `topic_filter`."""
    if topic.startswith("$") and topic_filter[:1] in {"+", "#"}:
        return False
    return _within(topic, topic_filter)


def access_page() -> str:
    """The table of docs/access.md."""
    rows = ["| Who (certificate name) | Broker | May | Topics | For |", "|---|---|---|---|---|"]
    rows += [
        f"| every device and gateway, `%u` = its name | both | {_verb(grant)} | `{grant.filter}` | itself and its children |"
        for grant in EVERYBODY
    ]
    rows.append(
        "| a vendor's device or gateway by password (off by default) | both | publish | the topics that the specs of its own "
        "devices give | itself and its children, see [vendor-mqtt.md](vendor-mqtt.md) |"
    )
    rows.append(
        "| the lanes, `svc.fire.N.…` and `svc.telemetry.N.…` | both | read | the same topics, of all devices | vendors' devices |"
    )
    for role in ROLES:
        rows += [
            f"| `{role.user}` | {role.broker.value} | {_verb(grant)} | `{grant.filter}` | {role.purpose} |"
            for grant in role.grants
        ]
    return "\n".join([*rows, ""])


def _grants(broker: BrokerName, user: str) -> Iterator[Grant]:
    if not DEVICE_NAME.match(user) and not SERVICE_NAME.match(user):
        return  # a name with "/", "+" or "#" would reach beyond its own topics
    for grant in EVERYBODY:
        yield grant.of(user)
    for role in ROLES:
        if role.broker is broker and user in role.names():
            yield from (grant.of(user) for grant in role.grants)


def _within(narrow: str, wide: str) -> bool:
    """Whether every topic of the filter (or topic) `narrow` is one of the filter `wide`."""
    inner, outer = narrow.split("/"), wide.split("/")
    for i, level in enumerate(outer):
        if level == "#":
            return True
        if i >= len(inner) or inner[i] == "#" or (level != "+" and level != inner[i]):
            return False
    return len(inner) == len(outer)


def _verb(grant: Grant) -> str:
    return {Access.READ: "read", Access.WRITE: "publish", Access.READWRITE: "read and publish", Access.DENY: "not read"}[
        grant.access
    ]
