"""Vendors' MQTT devices in the directory: what each one's side publishes, and what our lanes must hear for it.

A device whose spec has `mqtt` speaks its maker's own words. Its name on the vendor's side is its `connection`, or else its id.
Its publisher (itself, or the gateway it stands behind) is who logs in. Fire devices are heard on the fire broker, all others on
the field broker. Pure.
"""

from __future__ import annotations

from collections.abc import Collection

from iotcore.registry.directory import Binding, Directory
from iotcore.specs.model import DeviceSpec
from iotcore.wire import thingsboard

DEVICE = "{device}"


def is_vendor(binding: Binding) -> bool:
    """Whether it speaks its maker's own words."""
    return binding.spec.mqtt is not None


def name_of(binding: Binding) -> str:
    """What the vendor's side calls the device."""
    return binding.connection or binding.device


def topics_of(binding: Binding) -> tuple[str, ...]:
    """The topics, or filters where its spec has `+`, that its side publishes on for it."""
    return tuple(topic.replace(DEVICE, name_of(binding)) for topic in _patterns(binding.spec))


def filters(directory: Directory, domains: Collection[str]) -> tuple[str, ...]:
    """What a lane subscribes to for the vendors' devices of these domains, sorted: a filter for each kind of topic.

    Suspended and retired devices count too: what they say is to be refused and shown, not lost unseen.
    """
    heard = {
        pattern.replace(DEVICE, "+")
        for binding in directory.devices.values()
        if binding.spec.mqtt is not None and binding.domain in domains
        for pattern in _patterns(binding.spec)
    }
    return tuple(sorted(heard))


def _patterns(spec: DeviceSpec) -> tuple[str, ...]:
    source = spec.mqtt
    if source is None:
        return ()
    if source.format == "thingsboard":
        return thingsboard.OWN if spec.device_class == "gateway" else thingsboard.GATEWAY
    return (source.topic,)
