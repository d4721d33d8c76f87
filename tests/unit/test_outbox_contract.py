"""The fake and the journal keep the same promises to the dispatcher."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from iotcore.clock import ManualClock
from iotcore.journal.database import Place, connect_readonly, transaction
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.journal.posting import notice_of, post_update
from iotcore.journal.records import Batch
from iotcore.journal.timeline import Delivery, timeline
from tests.support.fire import NOON_MS, notice, raise_
from tests.support.outbox import MemoryOutbox
from tests.support.outbox_contract import OutboxContract


class JournalBench:
    """The contract's view of a real journal."""

    def __init__(self, path: Place) -> None:
        self.journal = Journal(path, ManualClock(), ["arc", "cad"])
        self.outbox = SqlOutbox(self.journal)
        self._path = path

    def alarm(self, premises: str) -> str:
        (incident,) = self.journal.commit(Batch(raises=(raise_(of=notice(f"sd-{premises}", premises)),))).opened
        return incident

    def restore(self, incident: str) -> None:
        assert self.journal.reset(incident, [], "operator", 0.0)

    def update(self, incident: str) -> None:
        with self.journal.lock, transaction(self.journal.connection) as connection:
            text = connection.execute("SELECT notice FROM incident WHERE id = ?", (incident,)).fetchone()[0]
            assert post_update(connection, incident, notice_of(text), NOON_MS)

    def deliveries(self, incident: str) -> list[Delivery]:
        reader = connect_readonly(self._path)
        found = timeline(reader, incident)
        reader.close()
        assert found is not None
        return list(found.deliveries)


class TestMemoryOutbox(OutboxContract):
    @pytest.fixture
    def bench(self) -> MemoryOutbox:
        return MemoryOutbox(clock=ManualClock())


class TestJournalOutbox(OutboxContract):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[JournalBench]:
        bench = JournalBench(tmp_path / "journal.db")
        yield bench
        bench.journal.close()
