"""telemetry.db: values by range and interval, last values, presence and faults, read while they are written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from msgspec import structs

from iotcore.clock import ManualClock
from iotcore.reading import Quality, Reading, Value
from iotcore.registry.directory import Binding
from iotcore.telemetry.embedded import EmbeddedStore, TelemetryFile
from iotcore.telemetry.panel import Panel
from iotcore.telemetry.queries import Latest, Seen, TelemetryReader
from iotcore.telemetry.rollup import Interval, Sample
from iotcore.telemetry.store import Written
from iotcore.wire.arrival import Presence, Refusal
from iotcore.wire.messages import StatusMessage
from tests.support.joined import joined
from tests.support.shipped import SPECS

SPEC = SPECS["iotcore-smoke-heat"]
BINDING = Binding("d1", "", SPEC, "fire", "d1", "active")
START_MS = 1_795_312_800_000.0  # a whole minute


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[TelemetryFile]:
    async with TelemetryFile(tmp_path / "telemetry.db") as one:
        yield one


@pytest.fixture
def reader(file: TelemetryFile) -> Iterator[TelemetryReader]:
    one = TelemetryReader(file.path)
    yield one
    one.close()


def reading(seq: int, *values: Value, after_s: float = 0.0, **more: object) -> Reading:
    at_ms = START_MS + after_s * 1000.0
    made = Reading("d1", "b1", seq, "reading", at_ms, at_ms + 50.0, values)
    return structs.replace(made, **more)


async def stored(file: TelemetryFile, *readings: Reading) -> None:
    store = EmbeddedStore(file)
    assert await store.write(*joined(*(store.record(one, BINDING) for one in readings))) == Written()


async def test_values_come_back_in_order_with_their_quality(file: TelemetryFile, reader: TelemetryReader) -> None:
    await stored(
        file,
        reading(2, Value("smoke", None, Quality.BAD, "timeout"), after_s=1),
        reading(1, Value("smoke", 0.5), Value("alarm", True)),  # noqa: FBT003 - the value itself
        reading(3, Value("smoke", float("nan")), after_s=2, test=True),
    )
    assert reader.samples("d1", "smoke", START_MS, START_MS + 10_000.0) == [
        Sample(START_MS, 0.5, Quality.GOOD, False),  # noqa: FBT003 - the record itself
        Sample(START_MS + 1000.0, None, Quality.BAD, False),  # noqa: FBT003 - the record itself
        Sample(START_MS + 2000.0, None, Quality.BAD, True),  # noqa: FBT003 - the record itself
    ]
    assert [one.value for one in reader.samples("d1", "alarm", START_MS, START_MS + 1.0)] == [1.0]


async def test_writing_a_reading_twice_leaves_one_value(file: TelemetryFile, reader: TelemetryReader) -> None:
    for _ in range(2):
        await stored(file, reading(1, Value("smoke", 0.5)))
    assert len(reader.samples("d1", "smoke", START_MS, START_MS + 1.0)) == 1


async def test_the_newest_values_are_given_when_there_are_too_many(file: TelemetryFile, reader: TelemetryReader) -> None:
    await stored(file, *(reading(seq, Value("smoke", float(seq)), after_s=seq) for seq in range(1, 10)))
    assert [one.value for one in reader.samples("d1", "smoke", 0.0, START_MS * 2, limit=3)] == [7.0, 8.0, 9.0]


async def test_a_mean_per_interval_leaves_bad_values_out_and_says_how_many_it_has(
    file: TelemetryFile, reader: TelemetryReader
) -> None:
    await stored(
        file,
        reading(1, Value("smoke", 1.0), after_s=0),
        reading(2, Value("smoke", 3.0, Quality.UNCERTAIN, "drift"), after_s=30),
        reading(3, Value("smoke", 900.0, Quality.BAD, "out_of_range"), after_s=45),
        reading(4, Value("smoke", 5.0), after_s=60),
    )
    assert reader.intervals(["d1", "nobody"], "smoke", START_MS, START_MS + 120_000.0, 60_000) == [
        Interval("d1", START_MS, 2.0, 1.0, 3.0, 2),
        Interval("d1", START_MS + 60_000.0, 5.0, 5.0, 5.0, 1),
    ]


async def test_a_damaged_row_is_rejected_alone(file: TelemetryFile, reader: TelemetryReader) -> None:
    store = EmbeddedStore(file)
    result = await store.write(*joined(b"no json", store.record(reading(1, Value("smoke", 0.5)), BINDING)))
    assert isinstance(result, Written)
    assert [one.record for one in result.rejected] == [b"no json"]
    assert len(reader.samples("d1", "smoke", START_MS, START_MS + 1.0)) == 1


async def test_series_are_found_again_after_a_restart(file: TelemetryFile, reader: TelemetryReader) -> None:
    await stored(file, reading(1, Value("smoke", 1.0)))
    await stored(file, reading(2, Value("smoke", 2.0), after_s=1))  # a store object of its own: nothing remembered
    assert len(reader.samples("d1", "smoke", START_MS, START_MS + 5000.0)) == 2


async def test_the_last_value_of_each_point_is_kept_with_what_is_wrong(file: TelemetryFile, reader: TelemetryReader) -> None:
    panel = Panel(file, ManualClock())
    panel.readings([reading(1, Value("smoke", 1.0), Value("alarm", False))])  # noqa: FBT003 - the value itself
    await panel.write()
    panel.readings([reading(2, Value("smoke", None, Quality.BAD, "timeout"), after_s=1)])
    await panel.write()
    assert sorted(reader.latest("d1")) == [
        Latest("d1", "alarm", False, Quality.GOOD, "", START_MS, START_MS + 50.0),  # noqa: FBT003 - the value itself
        Latest("d1", "smoke", None, Quality.BAD, "timeout", START_MS + 1000.0, START_MS + 1050.0),
    ]
    assert reader.latest("nobody") == []


@pytest.mark.parametrize("together", [True, False])
async def test_backlog_never_hides_a_later_value_but_a_live_value_always_shows(
    file: TelemetryFile, reader: TelemetryReader, *, together: bool
) -> None:
    panel = Panel(file, ManualClock())
    panel.readings([reading(9, Value("smoke", 9.0), after_s=100)])
    if not together:
        await panel.write()
    panel.readings([reading(3, Value("smoke", 3.0), after_s=10, backlog=True, age_ms=90_000)])
    await panel.write()
    assert [one.value for one in reader.latest("d1")] == [9.0]
    panel.readings([reading(10, Value("smoke", 10.0), after_s=50)])  # its clock was set back
    await panel.write()
    assert [one.value for one in reader.latest("d1")] == [10.0]


async def test_a_retained_status_sets_presence_but_is_no_sign_of_life(file: TelemetryFile, reader: TelemetryReader) -> None:
    panel = Panel(file, ManualClock())
    panel.presence(Presence("d1", "d1", StatusMessage(state="online", fw="2.4.1")), START_MS, retained=True)
    await panel.write()
    assert reader.presence("d1") == [Seen("d1", "online", START_MS, None, "2.4.1")]
    panel.presence(Presence("d1", "d1", StatusMessage(state="online")), START_MS + 1.0, retained=False)
    await panel.write()
    assert reader.presence("d1") == [Seen("d1", "online", START_MS + 1.0, START_MS + 1.0, "2.4.1")]
    panel.presence(Presence("d1", "d1", StatusMessage(state="offline")), START_MS + 2.0, retained=False)
    await panel.write()
    assert reader.presence("d1") == [Seen("d1", "offline", START_MS + 2.0, START_MS + 1.0, "2.4.1")]


async def test_a_reading_is_a_sign_of_life_and_leaves_presence_as_it_was(file: TelemetryFile, reader: TelemetryReader) -> None:
    panel = Panel(file, ManualClock())
    panel.readings([reading(1, Value("smoke", 1.0))])
    await panel.write()
    assert reader.presence() == [Seen("d1", "", None, START_MS + 50.0, "")]


async def test_a_fault_stands_until_a_good_value_and_its_history_stays(file: TelemetryFile, reader: TelemetryReader) -> None:
    clock = ManualClock()
    panel = Panel(file, clock)
    panel.judge([reading(1, Value("smoke", None, Quality.BAD, "timeout"), clock_fault="clock_past")])
    panel.judge([reading(2, Value("smoke", None, Quality.BAD, "timeout"))])
    panel.refused(Refusal("schema", "", "", "d1", b""))
    await panel.write()
    assert {(one.reason, one.times) for one in reader.faults("d1")} == {("bad:smoke:timeout", 2), ("refused:schema", 1)}
    clock.advance(10.0)
    panel.judge([reading(3, Value("smoke", 0.1))])
    await panel.write()
    assert reader.faults("d1") == []
    history = {one.reason: one for one in reader.faults("d1", standing=False)}
    assert set(history) == {"bad:smoke:timeout", "refused:schema", "clock_past"}
    assert history["bad:smoke:timeout"].times == 2
    assert history["bad:smoke:timeout"].cleared_ms == clock.now_ms


async def test_a_fault_that_stood_before_a_restart_is_still_ended_by_a_good_value(
    file: TelemetryFile, reader: TelemetryReader
) -> None:
    first = Panel(file, ManualClock())
    first.judge([reading(1, Value("smoke", None, Quality.BAD, "timeout"))])
    await first.write()
    second = Panel(file, ManualClock())
    await second.load()
    second.judge([reading(2, Value("smoke", 0.1))])
    await second.write()
    assert reader.faults("d1") == []
