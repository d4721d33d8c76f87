"""Times as people write them on the command line: the city's clock unless they say a zone."""

from __future__ import annotations

from datetime import datetime

import pytest

from iotcore.cli import _parser
from iotcore.commands.moments import every_ms, local, moment_ms, span_ms, utc
from iotcore.errors import StartError

NOW_MS = datetime.fromisoformat("2026-11-22T02:30:00.250+00:00").timestamp() * 1000.0  # 09:30 in Việt Nam


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("now", "2026-11-22T02:30:00.250Z"),
        ("-30s", "2026-11-22T02:29:30.250Z"),
        ("-2h", "2026-11-22T00:30:00.250Z"),
        ("-7d", "2026-11-15T02:30:00.250Z"),
        ("today", "2026-11-21T17:00:00.000Z"),
        ("yesterday", "2026-11-20T17:00:00.000Z"),
        ("2026-11-22", "2026-11-21T17:00:00.000Z"),
        ("2026-11-22 09:30", "2026-11-22T02:30:00.000Z"),
        ("2026-11-22T09:30:00.125", "2026-11-22T02:30:00.125Z"),
        ("2026-11-22T09:30Z", "2026-11-22T09:30:00.000Z"),
        ("2026-11-22T09:30+09:00", "2026-11-22T00:30:00.000Z"),
    ],
)
def test_a_time_is_the_citys_own_unless_it_has_a_zone(text: str, means: str) -> None:
    assert utc(moment_ms(text, NOW_MS, "--from")) == means


@pytest.mark.parametrize("text", ["", "soon", "2h", "-2y", "-h", "2026-13-01", "09:30", "--to"])
def test_what_is_no_time_is_refused_with_what_would_be_one(text: str) -> None:
    with pytest.raises(StartError, match=r"--from .* is no time\. Write an ISO time"):
        moment_ms(text, NOW_MS, "--from")


@pytest.mark.parametrize("text", ["0001-01-01", "1969-12-31", "9999-12-31T23:59Z"])
def test_a_time_that_no_reading_can_have_is_refused(text: str) -> None:
    with pytest.raises(StartError, match="is no time"):
        moment_ms(text, NOW_MS, "--from")


@pytest.mark.parametrize(("start", "end"), [("now", "now"), ("-1h", "-2h"), ("2026-11-22", "2026-11-21")])
def test_a_range_that_holds_nothing_is_refused(start: str, end: str) -> None:
    with pytest.raises(StartError, match="is not before"):
        span_ms(start, end, NOW_MS)


@pytest.mark.parametrize(("text", "ms"), [("1s", 1000), ("15m", 900_000), ("1h", 3_600_000), ("1d", 86_400_000)])
def test_an_interval_is_a_number_and_a_unit(text: str, ms: int) -> None:
    assert every_ms(text) == ms


@pytest.mark.parametrize("text", ["", "0m", "m", "1", "1.5h", "-1h", "400d", "99999999h"])
def test_another_interval_is_refused(text: str) -> None:
    with pytest.raises(StartError, match="is no interval"):
        every_ms(text)


def test_people_read_the_citys_clock_and_programs_utc() -> None:
    assert (local(NOW_MS), utc(NOW_MS)) == ("2026-11-22 09:30:00.250", "2026-11-22T02:30:00.250Z")


def test_a_time_before_now_needs_no_equals_sign() -> None:
    options = _parser().parse_args(["telemetry", "query", "sd-1", "smoke", "--from", "-2h", "--to", "-30m", "--every", "1m"])
    assert (options.start, options.end, options.every) == ("-2h", "-30m", "1m")
