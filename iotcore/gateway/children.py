"""Whose units a gateway polls: its own children in the directory, and nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from iotcore.registry.directory import Directory
from iotcore.wire.topics import FIRE_DOMAIN


class Children:
    """A directory of the units whose parent is `gateway`; the same object for as long as nothing changes."""

    def __init__(self, directory: Callable[[], Directory], gateway: str) -> None:
        self._directory = directory
        self._gateway = gateway
        self._seen: Directory | None = None
        self._own = Directory()

    def __call__(self) -> Directory:
        whole = self._directory()
        if whole is not self._seen:
            self._seen = whole
            own = {
                device: binding
                for device, binding in whole.devices.items()
                if binding.publisher == self._gateway and device != self._gateway
            }
            self._own = replace(whole, devices=own)
        return self._own

    def has_fire(self) -> bool:
        """Whether one of them is a fire device: then the gateway speaks to the fire broker too."""
        return any(binding.domain == FIRE_DOMAIN for binding in self().devices.values())
