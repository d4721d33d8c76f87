"""When the watchdog calls a lane stalled: by its own looks that found work and no turn, never by a clock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from iotcore.process.watchdog import FIRST_LIMIT_S, LANE_LIMIT_S, LOOK_S, Watchdog

LOOKS = int(LANE_LIMIT_S / LOOK_S)


@dataclass
class Lane:
    turns: int = 0
    holding: bool = True


def looks(watchdog: Watchdog, count: int) -> list[str]:
    return [watchdog.look() for _ in range(count)]


def test_a_lane_with_work_and_no_turn_is_stalled_after_the_limit(tmp_path: Path) -> None:
    lane = Lane(turns=3)
    watchdog = Watchdog(tmp_path, {"fire": lane})
    assert looks(watchdog, LOOKS) == [""] * (LOOKS - 1) + ["fire"]


def test_a_lane_without_work_may_rest_for_ever(tmp_path: Path) -> None:
    watchdog = Watchdog(tmp_path, {"fire": Lane(turns=3, holding=False)})
    assert not any(looks(watchdog, 10 * LOOKS))


def test_a_turn_now_and_then_is_enough(tmp_path: Path) -> None:
    lane = Lane(turns=3)
    watchdog = Watchdog(tmp_path, {"fire": lane})
    for _ in range(10):
        assert not any(looks(watchdog, LOOKS - 1))
        lane.turns += 1


def test_a_lane_that_comes_back_before_the_end_is_let_live(tmp_path: Path) -> None:
    lane = Lane(turns=3)
    watchdog = Watchdog(tmp_path, {"fire": lane})
    assert looks(watchdog, LOOKS)[-1] == "fire"
    lane.turns += 1
    assert watchdog.look() == ""


def test_before_its_first_turn_a_lane_has_longer(tmp_path: Path) -> None:
    watchdog = Watchdog(tmp_path, {"fire": Lane(turns=0)})
    first = int(FIRST_LIMIT_S / LOOK_S)
    assert looks(watchdog, first) == [""] * (first - 1) + ["fire"]


def test_one_of_two_lanes_is_named(tmp_path: Path) -> None:
    field, fire = Lane(turns=1), Lane(turns=1)
    watchdog = Watchdog(tmp_path, {"field": field, "fire": fire})
    for _ in range(LOOKS):
        field.turns += 1
        name = watchdog.look()
    assert name == "fire"
