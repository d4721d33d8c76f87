"""What InfluxDB's answers mean, as documented and as its own code words them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.telemetry.influx_answers import Answer, Verdict, all_dropped, named, parts, retry_after_s, verdict

CONFLICT = (
    'partial write: field type conflict: input field "pm10" on measurement "air" is type {}, '
    "already exists as type float dropped={}"
)


def two(code: str, message: str, status: int) -> Answer:
    return Answer(status, json.dumps({"code": code, "message": message}))


def one(error: str, status: int = 400) -> Answer:
    return Answer(status, json.dumps({"error": error}) + "\n")


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (Answer(204, ""), Verdict.TAKEN),
        (Answer(200, "<html>"), Verdict.LATER),
        (Answer(201, ""), Verdict.LATER),
        (Answer(302, ""), Verdict.LATER),
        (one("unable to parse 'x': missing fields"), Verdict.LINES),
        (one(CONFLICT.format("string", 1)), Verdict.LINES),
        (one("partial write: points beyond retention policy dropped=3"), Verdict.LINES),
        (one("database is required"), Verdict.DOUBTFUL),
        (two("invalid", "invalid precision; valid precision units are ns, us, ms, and s", 400), Verdict.DOUBTFUL),
        (two("invalid", "this service is overloaded, please try again later", 400), Verdict.DOUBTFUL),
        (two("unprocessable entity", "failure writing points to database: " + CONFLICT.format("string", 1), 422), Verdict.LINES),
        (two("unprocessable entity", "something new", 422), Verdict.LINES),
        (two("internal error", "partial write of line protocol occurred", 500), Verdict.LINES),
        (two("internal error", "unexpected error writing points to database: timeout", 500), Verdict.LATER),
        (two("request too large", "points batch is too large", 413), Verdict.SIZE),
        (two("unauthorized", "unauthorized access", 401), Verdict.LATER),
        (two("not found", 'bucket "x" not found', 404), Verdict.LATER),
        (Answer(429, ""), Verdict.LATER),
        (Answer(503, ""), Verdict.LATER),
        (Answer(0, "TimeoutError"), Verdict.LATER),
    ],
)
def test_a_verdict_follows_the_documented_codes_and_what_the_answer_speaks_of(answer: Answer, wanted: Verdict) -> None:
    assert verdict(answer) is wanted


def test_lines_are_named_by_their_text_even_when_it_looks_like_the_answer_itself() -> None:
    records = [b"good f=1.0 1", b"it's: 'x': bad", "số 8".encode(), b"good f=2.0 2", b"it's: 'x': bad"]
    said = "partial write: unable to parse 'it's: 'x': bad': missing fields\nunable to parse 'số 8': missing fields dropped=0"
    assert named(one(said), records) == {
        1: "unable to parse: missing fields",
        2: "unable to parse: missing fields dropped=0",
        4: "unable to parse: missing fields",
    }


def test_lines_are_named_by_their_number_and_numbers_out_of_range_name_nobody() -> None:
    wrong = [{"line_number": n, "error_message": f"why {n}", "original_line": "m"} for n in (0, 2, 3, 4)] + [{"line_number": "2"}]
    answer = Answer(400, json.dumps({"error": "partial write of line protocol occurred", "data": wrong}))
    assert named(answer, [b"a", b"b", b"c"]) == {1: "why 2", 2: "why 3"}
    assert named(Answer(400, '{"data": {"line_number": 1}}'), [b"a"]) == {}
    assert named(Answer(400, '["no object"]'), [b"a"]) == {}


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("string", b'air pm10="x" 1'), ("integer", b"air,device=b pm10=1i,quality=0i 2"), ("boolean", b"air x=1.0,pm10=T 3")],
)
def test_a_conflict_points_at_the_lines_that_have_the_field_in_the_wrong_type(kind: str, wanted: bytes) -> None:
    records = [
        b"air pm10=1.0 1",
        b"airport pm10=2i 1",
        b'air pm1="x" 1',
        b"air,device=a pm25=1i,pm10=0.5 1",
        wanted,
        b"air pm10=3.0 4",
    ]
    others, pointed = parts(one(CONFLICT.format(kind, 1)), records)
    assert list(pointed) == [wanted]
    assert list(others) == [record for record in records if record != wanted]


@given(st.integers(2, 40), st.text(max_size=20))
def test_parts_are_smaller_and_lose_nothing(count: int, said: str) -> None:
    records = [b"m f=%d 1" % n for n in range(count)]
    halves = parts(one(said), records)
    assert sorted([*halves[0], *halves[1]]) == sorted(records)
    assert all(0 < len(half) < count for half in halves)


def test_a_batch_is_dropped_as_a_whole_only_when_the_answer_says_so() -> None:
    assert all_dropped(one(CONFLICT.format("string", 5)), 5)
    assert not all_dropped(one(CONFLICT.format("string", 4)), 5)
    assert not all_dropped(one("unable to parse"), 1)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [("7", 7.0), ("0", 0.0), ("86400", 300.0), ("Thu, 01 Jan 1970 00:00:30 GMT", 30.0), ("soon", 0.0), ("", 0.0), ("-3", 0.0)],
)
def test_retry_after_is_seconds_or_a_date_and_never_absurd(header: str, wanted: float) -> None:
    assert retry_after_s(header, 0.0) == wanted
