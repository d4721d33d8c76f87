"""The alarms that stand, as the rules have to know them after a restart."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from iotcore.journal.database import Connection


class Latch(NamedTuple):
    """A rule that has decided about a device, and whose alarm stands; ms UTC.

    `returned`: its condition is over. `late`: it was held back, or found on a broker, so that the live stream has not decided.
    """

    device: str
    rule: str
    point: str
    detector_ms: float
    received_ms: float
    returned: bool
    late: bool


class _Said(msgspec.Struct):
    point: str
    delayed: bool = False
    unconfirmed: bool = False


def standing(connection: Connection) -> list[Latch]:
    """Every alarm that is active, and of what is disabled or in walk test those that have not returned to normal."""
    rows = connection.execute(
        "SELECT device, rule, notice, detector_ms, received_ms, cleared_ms FROM alarm "
        "WHERE state = 'active' OR (state IN ('disabled', 'walk') AND cleared_ms IS NULL)"
    ).fetchall()
    found = []
    for device, rule, notice, detector_ms, received_ms, cleared_ms in rows:
        said = msgspec.json.decode(notice, type=_Said)
        late = said.delayed or said.unconfirmed
        found.append(Latch(device, rule, said.point, detector_ms, received_ms, cleared_ms is not None, late))
    return found
