"""Topics of the wire contract.

iot/v1/{domain}/{publisher}/up/{kind}/{device}        kind = reading | event | status | result
iot/v1/{domain}/{publisher}/down/{kind}/{device}      kind = command | receipt | config
"""

from __future__ import annotations

import re
from typing import NamedTuple

from iotcore.errors import Refused

ROOT = "iot/v1"
FIRE_DOMAIN = "fire"
FIELD_DOMAINS = ("air", "water", "traffic", "gateway")
DOMAINS = (FIRE_DOMAIN, *FIELD_DOMAINS)
DOMAIN_OF_CLASS = {
    "fire_detector": "fire",
    "fire_panel": "fire",
    "air_station": "air",
    "water_station": "water",
    "traffic_signal": "traffic",
    "gateway": "gateway",
}
UP_KINDS = frozenset({"reading", "event", "status", "result"})
DOWN_KINDS = frozenset({"command", "receipt", "config"})
DEVICE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")  # a certificate CN without a dot: dots belong to services
MAX_PAYLOAD_BYTES = 64 * 1024
MAX_BATCH = 500
DRILL = "iotcore/v1/drill"  # what drills say, apart from what devices do
DRILL_PARTS = 5  # iotcore, v1, drill, publisher, device
PARTS = 7  # iot, v1, domain, publisher, direction, kind, device


class Topic(NamedTuple):
    """A parsed topic of the contract."""

    domain: str
    publisher: str
    direction: str
    kind: str
    device: str

    def __str__(self) -> str:
        return f"{ROOT}/{self.domain}/{self.publisher}/{self.direction}/{self.kind}/{self.device}"


def parse(topic: str) -> Topic:
    """Split a topic into its segments.

    Raises:
        Refused: reason `topic` when it is not one of the contract's.
    """
    parts = topic.split("/")
    if len(parts) != PARTS or parts[0] != "iot" or parts[1] != "v1" or parts[2] not in DOMAINS:
        raise Refused("topic", f"{topic!r} is not iot/v1/{{domain}}/{{publisher}}/up/{{kind}}/{{device}}")
    kinds = UP_KINDS if parts[4] == "up" else DOWN_KINDS if parts[4] == "down" else frozenset[str]()
    if parts[5] not in kinds or not DEVICE_NAME.match(parts[3]) or not DEVICE_NAME.match(parts[6]):
        raise Refused("topic", f"{topic!r} has an unknown kind or a bad name")
    return Topic(parts[2], parts[3], parts[4], parts[5], parts[6])


def up(domain: str, publisher: str, kind: str, device: str) -> str:
    """The topic a device (or its gateway, the publisher) publishes to."""
    return f"{ROOT}/{domain}/{publisher}/up/{kind}/{device}"


def drill(publisher: str, device: str) -> str:
    """The topic on which a service of ours speaks in the place of a fire device, as a test."""
    return f"{DRILL}/{publisher}/{device}"


def down(domain: str, publisher: str, kind: str, device: str) -> str:
    """The topic a device (through its publisher) is addressed on."""
    return f"{ROOT}/{domain}/{publisher}/down/{kind}/{device}"
