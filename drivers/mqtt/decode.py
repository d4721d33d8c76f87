"""What a lane decodes an arrival with: the contract's own topics by `canonical`, drills apart, any other by the vendor's spec."""

from __future__ import annotations

from drivers.mqtt import canonical, drill
from drivers.mqtt.vendor import Vendors
from iotcore.registry.directory import Directory
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival, Decoded

OURS = f"{topics.ROOT}/"
DRILLS = f"{topics.DRILL}/"


class Decoder:
    """Called for every arrival; it never raises. One for each process: vendors' messages are counted in it."""

    def __init__(self, vendors: Vendors | None = None) -> None:
        self._vendors = vendors or Vendors()

    def __call__(self, arrival: Arrival, directory: Directory, now_ms: float) -> Decoded:
        """What one arrival holds, judged at wall time `now_ms`."""
        if arrival.topic.startswith(OURS):
            return canonical.decode(arrival, directory, now_ms)
        if arrival.topic.startswith(DRILLS):
            return drill.decode(arrival, directory, now_ms)
        return self._vendors.decode(arrival, directory, now_ms)
