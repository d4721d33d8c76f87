"""The scenarios whose matter is a real service, in real time: Modbus units, brokers, databases, disks, the console."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.timelines.notation import Row, problems, told
from tests.timelines.page import page
from tests.timelines.scenarios import REAL, SCENARIOS, VIRTUAL
from tests.timelines.stage import act
from tests.unit.test_house import ROOT


@pytest.mark.timeout(60)
@pytest.mark.parametrize("row", REAL, ids=lambda row: row.id)
async def test_what_must_be_seen_is_seen_in_time_and_nothing_twice(row: Row, tmp_path: Path) -> None:
    async with row.setting(tmp_path) as world:
        await act(row, world)
    wrong = problems(row, world.seen)
    assert not wrong, told(row, world.seen, wrong)


def test_every_scenario_has_its_timelines_under_names_of_their_own() -> None:
    rows = [*VIRTUAL, *REAL]
    assert {row.number for row in rows} == set(SCENARIOS) == set(range(1, 23))
    assert len({row.id for row in rows}) == len(rows)


def test_the_page_of_scenarios_is_current() -> None:
    found = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    assert found == page(), "run: python -m tests.timelines.page > docs/scenarios.md"
