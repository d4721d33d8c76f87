"""A real journal with real readings and a fire in it, for what reads it."""

from __future__ import annotations

from iotcore.clock import ManualClock, Uptime
from iotcore.journal.database import Place
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.journal.records import Batch, Notice, Raise
from iotcore.reading import Reading, Value
from iotcore.registry.directory import InTest
from iotcore.wire.arrival import Refusal

ARC = "arc"
CAD = "cad"


class FireJournal:
    """The fire lane's file, written the way the lane does."""

    def __init__(self, path: Place, clock: ManualClock, uptime: Uptime | None = None) -> None:
        self.clock = clock
        self.journal = Journal(path, clock, [ARC, CAD], uptime=uptime)
        self.outbox = SqlOutbox(self.journal)
        self._seq = 0

    def close(self) -> None:
        self.journal.close()

    def burn(self, premises: str = "p1", device: str = "d1", *, test: bool = False, in_test: InTest | None = None) -> str:
        """One reading above the threshold; returns the incident that it opened, or "" for a test."""
        self._seq += 1
        now = self.clock.wall_ms()
        reading = Reading(device, "b1", self._seq, "event", now - 12.0, now, (Value("smoke", 0.52),), test=test)
        notice = Notice(
            incident="", event="alarm", hazard="smoke", severity="alarm", premises=premises,
            premises_name="Trường Tiểu học Lê Lợi", address="12 Lê Lợi, phường Hạc Thành, Thanh Hóa", latitude=19.8,
            longitude=105.77, account="A001", zone=f"{premises}-z1", zone_number=3, zone_name="Bếp ăn", floor="2", device=device,
            point="smoke", value=0.52, unit="dB/m", rule="smoke-threshold", reason="above_threshold", occurred_ms=now - 12.0,
        )  # fmt: skip
        made = Raise("b1", self._seq, notice, now - 12.0, now, now + 0.4, test=test, in_test=in_test)
        committed = self.journal.commit(Batch((reading,), (made,), presence=((device, True),)))
        opened = committed.opened
        self.journal.note_durable(opened, now + 1.6)
        self.journal.note_tests(committed.tests, now + 1.6)
        return opened[0] if opened else ""

    def deliver(self, channel: str = ARC) -> None:
        """The receiver has answered the oldest notice."""
        row = self.outbox.lease(channel, "test", self.clock.wall_ms(), 1000.0)
        assert row is not None
        self.outbox.sent(row.id, self.clock.wall_ms() + 3.0)
        self.outbox.acknowledged(row.id, self.clock.wall_ms() + 27.5, "ACK")

    def fail(self, channel: str = CAD, reason: str = "connection refused") -> None:
        """The receiver did not take the oldest notice."""
        row = self.outbox.lease(channel, "test", self.clock.wall_ms(), 1000.0)
        assert row is not None
        self.outbox.retry(row.id, self.clock.wall_ms(), reason, self.clock.wall_ms() + 500.0)

    def refuse(self, reason: str, device: str = "d1") -> None:
        """A message was not accepted, and its device is at fault."""
        refusal = Refusal(reason, "said the test", f"iot/v1/fire/{device}/up/reading/{device}", device, b"{}")
        self.journal.commit(Batch(refusals=(refusal,), faults=((device, f"refused:{reason}"),)))
