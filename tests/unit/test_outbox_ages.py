"""How old a kept reading is said to be, over restarts of the process and of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.outbox import Limits, Outbox
from iotcore.clock import ManualClock, Uptime, machine_uptime


class Machine:
    """A machine that tests start again, suspend and set the clock of."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.starts = 1
        self.up_s = 1000.0

    def uptime(self) -> Uptime:
        return Uptime(f"start-{self.starts}", lambda: self.up_s)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.up_s += seconds

    def reboot(self, off_s: float) -> None:
        self.clock.now_ms += off_s * 1000.0
        self.clock.elapsed_s = 0.0
        self.starts += 1
        self.up_s = 5.0

    def outbox(self, path: Path, limits: Limits | None = None) -> Outbox:
        return Outbox(path, self.clock, uptime=self.uptime(), limits=limits)


async def _keep_one(machine: Machine, path: Path) -> None:
    async with machine.outbox(path) as outbox:
        await outbox.put("fire", "a", {"alarm": True})


async def _age_ms(machine: Machine, path: Path) -> int:
    async with machine.outbox(path) as outbox:
        return outbox.age_ms((await outbox.page(0, 1))[0])


async def test_over_a_restart_of_the_process_the_uptime_counts_whatever_the_wall_clock_does(tmp_path: Path) -> None:
    machine = Machine()
    await _keep_one(machine, tmp_path / "o.db")
    machine.advance(90.0)
    machine.clock.now_ms += 86_400_000.0  # somebody corrected the date
    machine.clock.elapsed_s = 0.0
    assert await _age_ms(machine, tmp_path / "o.db") == 90_000


async def test_over_a_reboot_the_wall_clock_has_to_do(tmp_path: Path) -> None:
    machine = Machine()
    await _keep_one(machine, tmp_path / "o.db")
    machine.advance(10.0)
    machine.reboot(off_s=120.0)
    assert await _age_ms(machine, tmp_path / "o.db") == 130_000


async def test_a_clock_that_is_set_after_a_reboot_makes_old_readings_as_old_as_they_are(tmp_path: Path) -> None:
    """A gateway without a battery clock goes on with the time at which it went off, until it hears the right one."""
    machine = Machine()
    await _keep_one(machine, tmp_path / "o.db")
    machine.reboot(off_s=0.0)
    async with machine.outbox(tmp_path / "o.db") as outbox:
        (row,) = await outbox.page(0, 1)
        machine.advance(30.0)
        assert outbox.age_ms(row) == 30_000
        machine.clock.now_ms += 3_600_000.0
        assert outbox.age_ms(row) == 3_630_000


async def test_an_uptime_that_went_back_is_another_start_of_the_machine(tmp_path: Path) -> None:
    """A virtual machine restored from a snapshot: the same boot id, an earlier uptime."""
    machine = Machine()
    await _keep_one(machine, tmp_path / "o.db")
    machine.clock.now_ms += 600_000.0
    machine.up_s = 20.0
    assert await _age_ms(machine, tmp_path / "o.db") == 600_000


async def test_what_is_too_old_goes_with_the_next_reading_and_is_counted(tmp_path: Path) -> None:
    machine = Machine()
    async with machine.outbox(tmp_path / "o.db", Limits(max_age_s=3600.0)) as outbox:
        await outbox.put("air", "a", {})
        machine.advance(3000.0)
        await outbox.put("air", "a", {})
        assert (outbox.rows, outbox.oldest_s()) == (2, 3000.0)
        machine.advance(601.0)
        await outbox.put("air", "a", {})
        assert [row.seq for row in await outbox.page(0, 10)] == [2, 3]
        assert (outbox.evicted, outbox.rows, outbox.oldest_s()) == (1, 2, 601.0)


async def test_a_file_of_the_version_before_is_taken_over(tmp_path: Path) -> None:
    machine = Machine()
    await _keep_one(machine, tmp_path / "o.db")
    async with machine.outbox(tmp_path / "o.db") as outbox:
        await outbox._on_thread(lambda: outbox._file._db.execute("ALTER TABLE held DROP COLUMN machine"))
        await outbox._on_thread(lambda: outbox._file._db.execute("DELETE FROM mark WHERE name IN ('rows', 'size', 'machine')"))
    machine.advance(60.0)
    async with machine.outbox(tmp_path / "o.db") as outbox:
        (row,) = await outbox.page(0, 10)
        assert (row.machine, outbox.rows, outbox.age_ms(row)) == ("", 1, 60_000)


def test_the_uptime_of_this_machine_goes_on(tmp_path: Path) -> None:
    first = machine_uptime()
    assert first.seconds() <= machine_uptime().seconds()
    assert machine_uptime(tmp_path / "none").machine == ""


@pytest.mark.skipif(not Path("/proc/sys/kernel/random/boot_id").exists(), reason="Linux only")
def test_two_processes_of_one_start_call_the_machine_the_same() -> None:
    assert machine_uptime().machine == machine_uptime().machine != ""
