"""What receivers were told of troubles, in the transactions of a journal."""

from __future__ import annotations

from collections.abc import Collection

from iotcore.journal import told
from iotcore.journal.database import transaction
from iotcore.journal.journal import Journal
from iotcore.journal.told import Work


class SqlTold:
    """Implements `iotcore.dispatch.troubles.ToldStore`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def next(self, channel: str, kinds: Collection[str], now_ms: float) -> Work | None:
        """Something that this channel is to be told, leased to the caller; None when it knows all."""
        with self._journal.reading() as connection:
            if told.chosen(connection, channel, kinds, now_ms) is None:
                return None
            with transaction(connection):
                chosen = told.chosen(connection, channel, kinds, now_ms)
                return None if chosen is None else told.lease(connection, chosen, now_ms)

    def done(self, work: Work) -> None:
        """The receiver has acknowledged it."""
        with self._journal.writing() as connection:
            told.done(connection, work)

    def later(self, work: Work, until_ms: float) -> None:
        """It was not acknowledged: again then."""
        with self._journal.writing() as connection:
            told.later(connection, work, until_ms)
