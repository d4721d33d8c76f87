"""Topic → the vendor's device that it belongs to; one table for each directory, built once, asked for every message.

A topic that two accepted devices claim belongs to neither: whose reading it is cannot be told, and a guess would be a lie.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from iotcore.errors import Refused
from iotcore.registry import vendors
from iotcore.registry.directory import Binding, Directory

Claims = dict[str, list[Binding]]


@dataclass(frozen=True, slots=True)
class Index:
    """`exact` has a topic's claimants, `wild` those of each filter with a `+`.

    `children` has those of a name in ThingsBoard's payloads, `gateways` are the devices that publish them.
    """

    exact: Claims = field(default_factory=dict)
    wild: Claims = field(default_factory=dict)
    children: Claims = field(default_factory=dict)
    gateways: tuple[Binding, ...] = ()

    def find(self, topic: str) -> Binding:
        """The device that `topic` is of.

        Raises:
            Refused: `unknown_topic` or `ambiguous`.
        """
        claimants = self.exact.get(topic)
        if claimants is None:
            levels = topic.split("/")
            claimants = [one for wide, those in self.wild.items() if _matches(wide.split("/"), levels) for one in those]
        return _only(claimants, "unknown_topic", f"no registered device publishes on {topic!r}")

    def child(self, name: str) -> Binding:
        """The device behind a ThingsBoard gateway that its side calls `name`.

        Raises:
            Refused: `unknown_device` or `ambiguous`.
        """
        return _only(self.children.get(name, ()), "unknown_device", f"no device behind a ThingsBoard gateway is named {name!r}")

    def gateway(self) -> Binding:
        """The one ThingsBoard gateway: its own telemetry does not say whose it is.

        Raises:
            Refused: `unknown_device` or `ambiguous`.
        """
        return _only(self.gateways, "unknown_device", "no ThingsBoard gateway is registered")


def check(binding: Binding) -> None:
    """Raises Refused, `not_accepted:STATE`, for a device whose word does not count."""
    if not binding.accepted:
        raise Refused(f"not_accepted:{binding.state}", f"{binding.device} is {binding.state}")


def index(directory: Directory) -> Index:
    """The table of a directory."""
    exact: Claims = {}
    wild: Claims = {}
    children: Claims = {}
    gateways = []
    for binding in directory.devices.values():
        source = binding.spec.mqtt
        if source is None:
            continue
        if source.format == "thingsboard":
            if binding.domain == "gateway":
                gateways.append(binding)
            else:
                children.setdefault(vendors.name_of(binding), []).append(binding)
            continue
        for topic in vendors.topics_of(binding):
            (wild if "+" in topic else exact).setdefault(topic, []).append(binding)
    return Index(exact, wild, children, tuple(gateways))


def _only(claimants: Iterable[Binding], reason: str, detail: str) -> Binding:
    """The one that is accepted; where none is, any, which `check` will refuse by name."""
    there = list(claimants)
    accepted = [one for one in there if one.accepted]
    if len(accepted) > 1:
        raise Refused("ambiguous", f"{', '.join(sorted(one.device for one in accepted))}: any of them could have said it")
    if not there:
        raise Refused(reason, detail)
    return accepted[0] if accepted else there[0]


def _matches(wide: list[str], levels: list[str]) -> bool:
    return len(wide) == len(levels) and all(part in ("+", level) for part, level in zip(wide, levels, strict=True))
