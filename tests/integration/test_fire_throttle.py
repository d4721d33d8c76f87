"""Throttling on the fire lane: what is stored is coalesced; what is raised is the same as without it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.mqtt.canonical import decode
from iotcore.alarms import rules
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.clock import ManualClock
from iotcore.journal.journal import Journal
from iotcore.journal.throttle import CALM_S, Throttle
from iotcore.registry.directory import Binding, Directory, Premises
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival
from tests.support.listed import ListBroker
from tests.support.shipped import SPECS

RULES = rules.load(rules.default_path())
DIRECTORY = Directory(
    {name: Binding(name, name, SPECS["iotcore-smoke-heat"], "fire", name, "active", "p1") for name in ("sd-1", "sd-2")},
    {"p1": Premises("p1", "Chợ Vườn Hoa", "Đường Lê Hoàn, Thanh Hóa", 19.807, 105.776, "1001")},
)


def tight() -> Throttle:
    """One reading a second and no credit."""
    return Throttle(live_credit_s=0.0, backlog_credit_s=0.0, least_credit=1)


class Lane:
    """A fire lane over a journal in `folder`."""

    def __init__(self, folder: Path, throttle: Throttle) -> None:
        self.clock = ManualClock()
        self.directory = DIRECTORY
        self.opened: list[str] = []
        self.broker = ListBroker()
        self.journal = Journal(folder / "journal.db", self.clock, ["arc"])
        self.lane = FireLane(
            broker=self.broker,
            decode=decode,
            directory=lambda: self.directory,
            engine=Engine(RULES),
            journal=self.journal,
            clock=self.clock,
            opened=lambda committed: self.opened.extend(committed.opened),
            first_seen=self._first_seen,
            throttle=throttle,
        )
        self.seq = 0

    async def _first_seen(self, device: str) -> None:
        raise AssertionError(device)  # all are active

    def arrival(self, values: dict[str, Any], after_s: float, **more: Any) -> Arrival:
        self.clock.advance(after_s)
        self.seq += 1
        body = {"boot": "b1", "seq": self.seq, "ts": int(self.clock.wall_ms()), "values": values, **more}
        return Arrival(
            topics.up("fire", "sd-1", "reading", "sd-1"),
            json.dumps(body).encode(),
            retained=False,
            received_ms=self.clock.wall_ms(),
        )

    async def turn(self, arrivals: Sequence[Arrival]) -> None:
        await self.lane.turn(arrivals)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.journal.connection.execute(query).fetchall()

    def stored(self) -> list[int]:
        return [seq for (seq,) in self.rows("SELECT seq FROM reading ORDER BY seq")]


@pytest.fixture
def flood(tmp_path: Path) -> Iterator[Lane]:
    lane = Lane(tmp_path, tight())
    yield lane
    lane.journal.close()


async def test_a_flood_of_the_same_is_stored_at_its_rate_receipted_counted_and_shown(flood: Lane) -> None:
    for _ in range(20):
        await flood.turn([flood.arrival({"smoke": 0.01, "temperature": 24.0}, 0.01) for _ in range(50)])
    assert 10 <= len(flood.stored()) <= 14  # 10 s at one a second, and what the first of the flood tells
    assert len(flood.broker.acknowledged) == 1_000
    assert flood.rows("SELECT up_to FROM progress") == [(1_000,)]
    flood.clock.advance(5.0)
    await flood.turn([flood.arrival({"smoke": 0.01}, 0.0)])
    assert flood.rows("SELECT reason FROM fault WHERE cleared_ms IS NULL") == [("throttled",)]
    ((throttled,),) = flood.rows("SELECT throttled FROM conduct WHERE device = 'sd-1'")
    assert throttled >= 980
    await flood.turn([flood.arrival({"smoke": 0.01}, CALM_S)])
    await flood.turn([flood.arrival({"smoke": 0.01}, CALM_S)])
    assert flood.rows("SELECT reason FROM fault WHERE cleared_ms IS NULL") == []


async def test_every_change_of_a_state_a_quality_or_the_test_mark_is_stored_however_fast_it_comes(flood: Lane) -> None:
    await flood.turn([flood.arrival({"smoke": 0.01, "alarm": False}, 0.001) for _ in range(30)])
    before = set(flood.stored())
    told: list[dict[str, Any]] = [
        {"values": {"smoke": 0.01, "alarm": True}},
        {"values": {"smoke": 0.01, "alarm": False}},
        {"values": {"smoke": 0.01, "alarm": False}, "q": {"smoke": "uncertain:dirty"}},
        {"values": {"smoke": None, "alarm": False}},
        {"values": {"smoke": None, "alarm": False}, "test": True},
    ]
    arrivals = [flood.arrival(one.pop("values"), 0.001, **one) for one in told]
    await flood.turn([*arrivals, flood.arrival({"smoke": None, "alarm": False}, 0.001, test=True)])
    assert set(flood.stored()) - before == {31, 32, 33, 34, 35}


async def test_the_highest_value_of_an_interval_is_stored_with_its_turn(flood: Lane) -> None:
    await flood.turn([flood.arrival({"smoke": 0.01}, 0.001) for _ in range(30)])
    before = set(flood.stored())
    await flood.turn([flood.arrival({"smoke": value}, 0.001) for value in (0.02, 0.05, 0.04, 0.03)])
    await flood.turn([flood.arrival({"smoke": value}, 0.001) for value in (0.04, 0.05, 0.01)])
    assert set(flood.stored()) - before == {32}


STEP = st.fixed_dictionaries(
    {"smoke": st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.8, None]), "temperature": st.sampled_from([20.0, 55.0, 60.0, 90.0])},
    optional={"alarm": st.booleans()},
)
MORE = st.fixed_dictionaries({}, optional={"test": st.booleans(), "backlog": st.booleans()})
STREAM = st.lists(st.tuples(STEP, MORE, st.sampled_from([0.001, 0.05, 0.4, 3.0, 30.0])), min_size=1, max_size=40)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stream=STREAM, turn=st.integers(1, 20))
def test_raises_with_and_without_throttling_are_identical(stream: list[tuple[dict, dict, float]], turn: int) -> None:  # type: ignore[type-arg]
    with TemporaryDirectory() as free_folder, TemporaryDirectory() as tight_folder:
        lanes = [Lane(Path(free_folder), Throttle(live_credit_s=1e9)), Lane(Path(tight_folder), tight())]
        try:
            for lane in lanes:
                arrivals = [lane.arrival(values, after_s, **more) for values, more, after_s in stream]
                asyncio.run(_in_turns(lane, arrivals, turn))
            alarms = [lane.rows("SELECT rule, severity, state, detector_ms FROM alarm ORDER BY id") for lane in lanes]
            causes = [lane.rows("SELECT device, boot, seq, rule, incident IS NULL FROM cause ORDER BY 3, 4") for lane in lanes]
            assert alarms[0] == alarms[1]
            assert causes[0] == causes[1]
            free, throttled = (set(lane.stored()) for lane in lanes)
            assert free == set(range(1, len(stream) + 1))
            assert {seq for _, _, seq, _, _ in causes[1]} <= throttled
            states = _states(stream)
            assert {n for n in range(2, len(stream) + 1) if states[n - 1] != states[n - 2]} <= throttled
            for name in ("smoke", "temperature"):
                most = max((values[name] for values, _, _ in stream if values[name] is not None), default=None)
                assert most is None or any(stream[seq - 1][0][name] == most for seq in throttled)
        finally:
            for lane in lanes:
                lane.journal.close()


async def _in_turns(lane: Lane, arrivals: list[Arrival], size: int) -> None:
    for start in range(0, len(arrivals), size):
        await lane.turn(arrivals[start : start + size])


def _states(stream: list[tuple[dict[str, Any], dict[str, Any], float]]) -> list[tuple[Any, ...]]:
    """What each message leaves the device's states at; one that tells nothing of a state does not change it."""
    alarm: bool | None = None
    states = []
    for values, more, _ in stream:
        alarm = values.get("alarm", alarm)
        states.append((alarm, values["smoke"] is None, more.get("test", False), more.get("backlog", False)))
    return states


async def test_what_is_refused_for_good_counts_as_handled_so_that_the_fire_lanes_receipts_go_on(flood: Lane) -> None:
    good = flood.arrival({"smoke": 0.0}, 1.0)
    bad = Arrival(good.topic, b'{"boot":"b1","seq":2,"values":7}', retained=False, received_ms=good.received_ms)
    flood.seq = 2
    await flood.turn([good, bad, flood.arrival({"smoke": 0.0}, 1.0)])
    assert flood.rows("SELECT up_to, above FROM progress") == [(3, "[]")]
    assert flood.rows("SELECT reason, identities FROM quarantine") == [("schema", '[["b1",2]]')]
    await flood.turn([bad])
    assert flood.rows("SELECT identities FROM quarantine ORDER BY id DESC LIMIT 1") == [("[]",)]
