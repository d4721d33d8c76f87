"""A disk that is really full: fires are at the receiver within a second, once, and in the journal when there is room."""

from __future__ import annotations

from pathlib import Path

from iotcore.journal.emergency import FIRST_NUMBER
from tests.support.small_disk import on_small_disk
from tests.support.small_fire import FIRES

DISK_MB = 16  # the emergency log takes 8 of it


async def test_fires_on_a_full_disk_are_out_within_a_second_and_one_incident_each_over_a_restart(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    found = await on_small_disk(disk, DISK_MB, "tests.support.small_fire", disk)
    assert found["all_out_s"] < 1.0
    assert (found["unlogged"], found["in_the_journal"]) == (0, 0), "on the disk that is full, in the room put aside"
    assert "full" in found["state"]["journal_trouble"]
    assert (found["left_in_the_log"], found["sent_again"]) == (FIRES, 0), "a restart knows what was acknowledged"
    assert found["incidents"] == found["told"] == found["frames"] == FIRES
    assert found["outbox"] == [FIRES, FIRES, FIRST_NUMBER], "number and acknowledgement are carried over"
