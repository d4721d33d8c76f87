"""Judged: readings that the rules have seen and that were not taken, so that none enters their windows twice. Pure.

Their sender may say them again, or say them on the other path as well: one spike told twice must not pass for two readings.
"""

from __future__ import annotations

from collections import OrderedDict

from iotcore.reading import Reading

LIMIT = 10_000  # readings remembered, of all devices; a device without a receipt sends the same again within 30 s

_Key = tuple[str, str, int, bool]


class Judged:
    """The newest `limit` of them; a late one is another than the same one told live, as it is to the rules."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._known: OrderedDict[_Key, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, reading: Reading) -> bool:
        return _key(reading) in self._known

    def add(self, reading: Reading) -> None:
        """Remember it; the oldest is forgotten."""
        self._known[_key(reading)] = None
        if len(self._known) > self._limit:
            self._known.popitem(last=False)


def _key(reading: Reading) -> _Key:
    return (*reading.identity, reading.backlog)
