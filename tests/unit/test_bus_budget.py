"""Time on a bus, and the arithmetic of the fire budget, by hand."""

from __future__ import annotations

import pytest

from iotcore.specs import bus
from iotcore.specs.bus import Asked, Serial
from iotcore.specs.model import ModbusLimits
from iotcore.specs.plan import Request

SLOW = Serial(9600, "E")
LIMITS = ModbusLimits(timeout_s=1.0)


def _request(count: int, table: str = "holding") -> Request:
    return Request(table, 0, count, ())  # type: ignore[arg-type]


def _panel(name: str, poll_s: float = 2.0, requests: int = 1, **changes: object) -> Asked:
    asked = Asked(name, ((poll_s, (_request(100),) * requests),), (), LIMITS, 10.0, None)
    return asked._replace(**changes)  # type: ignore[arg-type]


def _meter(name: str, limits: ModbusLimits = LIMITS, serial: Serial | None = None) -> Asked:
    return Asked(name, (), (_request(125),), limits, 10.0, serial)


@pytest.mark.parametrize(
    ("serial", "char_s", "gap_s"),
    [
        (Serial(9600, "N", 1), 10 / 9600, 35 / 9600),
        (Serial(9600, "E", 1), 11 / 9600, 38.5 / 9600),
        (Serial(9600, "N", 2), 11 / 9600, 38.5 / 9600),
        (Serial(19_200, "E", 1), 11 / 19_200, 38.5 / 19_200),
        (Serial(115_200, "N", 1), 10 / 115_200, 0.00175),
    ],
)
def test_a_character_has_its_start_parity_and_stop_bits_and_a_frame_ends_with_silence(
    serial: Serial, char_s: float, gap_s: float
) -> None:
    assert serial.char_s == pytest.approx(char_s)
    assert serial.gap_s == pytest.approx(gap_s)


@pytest.mark.parametrize(("request_", "sizes"), [(_request(1), (8, 7)), (_request(125), (8, 255)), (_request(9, "coil"), (8, 7))])
def test_frames_have_the_bytes_of_the_protocol(request_: Request, sizes: tuple[int, int]) -> None:
    assert bus.frame_bytes(request_) == sizes


def test_a_block_of_125_registers_at_9600_takes_a_third_of_a_second() -> None:
    assert bus.on_the_line_s(_request(125), SLOW) == pytest.approx(263 * 11 / 9600 + 2 * 38.5 / 9600)


def test_a_budget_that_is_met_refuses_nobody() -> None:
    assert bus.refusals([_panel("p"), _meter("m")]) == {}
    assert bus.refusals([]) == {}


def test_a_panel_that_is_polled_too_rarely_is_refused_with_the_arithmetic() -> None:
    refused = bus.refusals([_panel("p", poll_s=9.0, requests=3), _panel("q")])
    assert refused == {
        "p": "p: poll interval 9 s + longest request in flight 1.000 s (p: a timeout of 1 s) + fire requests 0.060 s"
        " (p 0.060 s) = 10.060 s, more than the fire budget of 10 s"
    }


def test_a_slow_neighbour_is_refused_and_not_the_panel_whose_budget_it_would_break() -> None:
    slow = _meter("a-slow-one", ModbusLimits(timeout_s=9.0))
    refused = bus.refusals([slow, _panel("panel"), _meter("quick")])
    assert set(refused) == {"a-slow-one"}
    assert "panel: poll interval 2 s + longest request in flight 9.000 s (a-slow-one" in refused["a-slow-one"]


def test_a_newcomer_does_not_take_the_place_of_one_that_is_polled() -> None:
    many = [_panel(f"p{n}", poll_s=1.0, requests=20) for n in range(3)]  # 0.4 s of each second
    assert set(bus.refusals(many)) == {"p2"}
    assert set(bus.refusals(many, settled={"p1", "p2"})) == {"p0"}
    assert "need 1.20 s of each second of the bus: " in bus.refusals(many)["p2"]


def test_the_baud_rate_decides() -> None:
    panel = _panel("p", requests=8, serial=Serial(1200), budget_s=8.0)
    assert "at 1200 baud 8N1" in bus.refusals([panel])["p"]
    assert bus.refusals([panel._replace(serial=Serial(19_200))]) == {}


def test_a_unit_without_fire_points_may_be_as_slow_as_it_likes_among_its_own() -> None:
    assert bus.refusals([_meter(f"m{n}", ModbusLimits(timeout_s=60.0), Serial(300)) for n in range(100)]) == {}


def test_the_gap_a_unit_needs_counts() -> None:
    quick, resting = _panel("p", requests=10), _panel("p", requests=10, limits=ModbusLimits(min_gap_ms=500))
    assert quick.work_s() == pytest.approx(0.2)
    assert resting.work_s() == pytest.approx(5.2)
