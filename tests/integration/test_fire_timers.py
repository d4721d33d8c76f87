"""Rules by time in the lane: they decide without a further reading, once, also after the process has died in between."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from iotcore.alarms import rules
from simulators.arc_receiver import ArcReceiver
from tests.support.fire_table import FireTable
from tests.support.until import until

LASTS_S = 1.5
RULES = f"""
profile: immediate
rules:
  - id: smoke-that-lasts
    source: this test
    severity: alarm
    hazard: smoke
    device_classes: [fire_detector]
    when: {{kind: sustained, for_s: {LASTS_S}, of: {{kind: threshold, point: smoke, above: 0.1, unit: dB/m}}}}
"""


@pytest.fixture
def lasting(tmp_path: Path) -> tuple[rules.Rule, ...]:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES, encoding="utf-8")
    return rules.load(path)


async def started(folder: Path, arc: ArcReceiver, lasting: tuple[rules.Rule, ...]) -> FireTable:
    table = FireTable(folder, arc)
    table.rules = lasting
    await table.start()
    return table


async def test_what_lasts_is_a_fire_without_a_further_reading(tmp_path: Path, lasting: tuple[rules.Rule, ...]) -> None:
    async with ArcReceiver() as arc:
        table = await started(tmp_path, arc, lasting)
        try:
            await table.say("sd-1", {"smoke": 0.5})
            assert table.rows("SELECT kind FROM timer") == [("rule",)], "kept with the reading that armed it"
            await asyncio.sleep(LASTS_S / 2)
            assert not arc.received
            await until(lambda: len(arc.received) == 1, LASTS_S)
            ((device, seq, incident),) = table.rows("SELECT device, seq, incident FROM cause WHERE incident IS NOT NULL")
            assert (device, seq, incident) == ("sd-1", 1, arc.received[0].incident), "its cause is that reading"
            await table.say("sd-2", {"smoke": 0.0})
            assert table.rows("SELECT kind FROM timer WHERE kind = 'rule'") == []
        finally:
            await table.stop()


async def test_it_is_due_when_it_would_have_been_though_the_process_died(tmp_path: Path, lasting: tuple[rules.Rule, ...]) -> None:
    async with ArcReceiver() as arc:
        table = await started(tmp_path, arc, lasting)
        await table.say("sd-1", {"smoke": 0.5})
        await table.stop()
        again = await started(tmp_path, arc, lasting)
        try:
            assert not arc.received
            await until(lambda: len(arc.received) == 1, LASTS_S + 1.0)
            await asyncio.sleep(0.3)
            assert table.rows("SELECT count(*) FROM incident") == [(1,)]
        finally:
            await again.stop()


async def test_time_decides_while_the_journal_does_not_answer(tmp_path: Path, lasting: tuple[rules.Rule, ...]) -> None:
    async with ArcReceiver() as arc:
        table = await started(tmp_path, arc, lasting)
        try:
            await table.say("sd-1", {"smoke": 0.5})
            with table.held():
                await until(lambda: len(arc.received) == 1, LASTS_S + 1.0)
            await until(lambda: not table.stalled and not table.rescue.emergency.fires, 10.0)
            assert table.rows("SELECT id FROM incident") == [(arc.received[0].incident,)]
        finally:
            await table.stop()
