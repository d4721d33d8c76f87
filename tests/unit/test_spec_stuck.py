"""What should move and does not, and a life-check word that stands still."""

from __future__ import annotations

from iotcore.reading import Quality, Value
from iotcore.specs import decode
from iotcore.specs.model import Table
from iotcore.specs.stuck import Stuck
from tests.support.spec_documents import document, parse, wire

UNIT = parse(
    document(
        {
            "life": wire(address=0) | {"stuck_after_s": 5},
            "heat": wire(address=1) | {"stuck_after_s": 60, "scale": 0.1},
            "door": wire(address=2),
        },
        life_check="life",
    )
)


class Played:
    """A unit that is read now and then."""

    def __init__(self) -> None:
        self.stuck = Stuck(UNIT)

    def read(self, now_s: float, *words: int | None) -> list[str]:
        known: dict[tuple[Table, int], int] = {("holding", i): word for i, word in enumerate(words) if word is not None}
        judged = self.stuck.judge(decode.values(UNIT, known), known, now_s)
        return [f"{value.quality.value}:{value.why}".rstrip(":") for value in judged]


def test_a_life_check_that_stands_still_makes_every_point_bad_and_moving_again_mends_it() -> None:
    unit = Played()
    assert unit.read(0.0, 1, 250, 7) == ["good", "good", "good"]
    assert unit.read(5.0, 1, 251, 7) == ["good", "good", "good"]
    assert unit.read(5.1, 1, 252, 7) == ["bad:stuck", "bad:life_check", "bad:life_check"]
    assert unit.read(6.0, 2, 252, 7) == ["good", "good", "good"]


def test_a_value_that_should_move_is_bad_alone_and_keeps_its_number() -> None:
    unit = Played()
    for second in range(61):
        assert unit.read(float(second), second, 250, 7)[1] == "good"
    assert unit.read(60.5, 99, 250, 7) == ["good", "bad:stuck", "good"]
    known: dict[tuple[Table, int], int] = {("holding", 0): 100, ("holding", 1): 250, ("holding", 2): 7}
    judged = unit.stuck.judge(decode.values(UNIT, known), known, 61.0)
    assert judged[1] == Value("heat", 25.0, Quality.BAD, "stuck")


def test_what_could_not_be_read_says_why_itself() -> None:
    unit = Played()
    unit.read(0.0, 1, 250, 7)
    assert unit.read(10.0, None, 250, 7) == ["bad:not_read", "good", "good"]
    assert unit.read(11.0, 1, None, 7) == ["bad:stuck", "bad:not_read", "bad:life_check"]


def test_points_read_at_another_time_than_the_life_check_share_its_verdict() -> None:
    unit = Played()
    unit.read(0.0, 1, None, None)
    unit.read(6.0, 1, None, None)
    assert unit.read(6.1, None, 250, 7) == ["bad:not_read", "bad:life_check", "bad:life_check"]
