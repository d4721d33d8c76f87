"""A disk that is really full: while the spool runs, and before a process starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.services import require
from tests.support.small_disk import on_small_disk

DISK_MB = 40
FILES = ("telemetry.db", "confidential.db", "journal.db", "registry.db", "another's spool", "spool", "outbox")
ALL_OPEN = dict.fromkeys(FILES, "open")
IN_MEMORY = {"outbox": "open"}  # locked for one process alone, so SQLite keeps its index of the log in memory, not in a file


async def test_a_full_disk_refuses_lines_but_can_be_drained_and_then_takes_lines_again(tmp_path: Path) -> None:
    result = await on_small_disk(tmp_path / "disk", DISK_MB, "tests.support.full_disk", tmp_path / "disk")
    assert result["stored"] > 500
    assert result["drained"] == result["stored"]
    assert result["again"] > 0.9 * result["stored"]


async def test_files_are_opened_on_a_disk_that_is_full_by_the_reserve_or_as_soon_as_there_is_room(tmp_path: Path) -> None:
    result = await on_small_disk(tmp_path / "disk", DISK_MB, "tests.support.full_disk_start", tmp_path / "disk")
    assert result["with room"] == ALL_OPEN
    # with the reserve: open, nothing taken, all drained, and what that freed is enough to take lines again
    assert (result["refused"], result["drained"], result["again"]) == ("StoreFull", result["put"], "open")
    # without: nothing opens, and each file opens once there is room, with what it held
    assert result["full"] == dict.fromkeys(FILES, "StoreFull") | IN_MEMORY
    assert (result["freed"], result["left"]) == (ALL_OPEN, 1)
    # a full disk hides nobody else's trouble
    assert set(result["broken"].values()) == {"StartError"}


@pytest.mark.timeout(150)
async def test_processes_started_on_a_full_disk_live_acknowledge_nothing_and_go_on_by_themselves(tmp_path: Path) -> None:
    require("mosquitto")
    result: dict[str, Any] = await on_small_disk(tmp_path / "data", DISK_MB, "tests.support.telemetry_start", tmp_path)
    by_reserve, waiting, doctor = result["by_reserve"], result["waiting"], result["doctor"]
    assert by_reserve["connected"]
    assert "waits_for" not in by_reserve
    assert "no room on the disk" in waiting["waits_for"]
    assert not waiting["connected"]
    assert (doctor["well"], waiting["waits_for"] in doctor["said"]) == (False, True)
    assert by_reserve["held"] == waiting["held"] == [result["each"]] * 2, "no receipt for what is on no disk"
    assert (result["after"]["pid"], result["ended"], result["lines"]) == (waiting["pid"], [], 1)
    fire = result["fire"]
    assert "no room on the disk" in fire["full"]["waits_for"]
    assert (fire["after"]["pid"], fire["ended"]) == (fire["full"]["pid"], None)
    wrong = {kind: result["report"][kind] for kind in ("lost", "missing", "duplicated", "unexpected")}
    assert wrong == dict.fromkeys(wrong, 0)
    assert result["report"]["ok"] + result["report"]["recovered"] == result["made"] == 3 * 2 * result["each"]
