"""Each objective of the alarm contract, judged by what an incident's review says: kept, broken, still open, or not concerned."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from iotcore.journal import objectives, story
from iotcore.journal.case import Told
from iotcore.journal.objectives import Objective
from iotcore.journal.review import Review, Way
from tests.support.fire import NOON_MS, notice


def way(channel: str, took_ms: float | None, event: Any = "alarm") -> Way:
    acknowledged_ms = None if took_ms is None else NOON_MS + took_ms
    return Way(channel, event, 1, int(took_ms is not None), NOON_MS, NOON_MS + 3.0, acknowledged_ms, acknowledged_ms, 0, "", "")


QUIET = Review(
    incident="F1", premises="p1", state="open", notice=notice(), detector_ms=NOON_MS - 12.0, received_ms=NOON_MS,
    decided_ms=NOON_MS, durable_ms=NOON_MS + 1.0, acknowledged_ms=NOON_MS + 20_000.0, acknowledged_by="an", closed_ms=None,
    closed_by="", silenced_ms=None, silenced_by="", owner_said="", owner_ms=None, owner_by="", held_ms=None, released_ms=None,
    points=(), points_in_all=1, devices_in_all=1, story=(), story_in_all={}, ways=(way("arc", 25.0),), standing=(),
    standing_in_all=0, cursor=1,
)  # fmt: skip


def judged(review: Review, after_s: float = 3_600.0) -> dict[str, Objective]:
    return {one.name: one for one in objectives.judge(review, NOON_MS + after_s * 1000.0)}


def line(kind: str, after_ms: float, by: str = "", detail: str = "") -> Told:
    return Told(NOON_MS + after_ms, kind, by, detail)


def test_a_quick_fire_that_somebody_takes_keeps_them_all() -> None:
    assert {one.verdict for one in judged(QUIET).values()} == {"kept"}
    assert judged(QUIET)["answer"].measured_ms == 20_000.0


@pytest.mark.parametrize(
    ("changed", "name", "verdict", "measured_ms"),
    [
        ({"durable_ms": NOON_MS + 250.0}, "commit", "kept", 250.0),
        ({"durable_ms": NOON_MS + 251.0}, "commit", "broken", 251.0),
        ({"durable_ms": None}, "commit", "unknown", None),
        ({"durable_ms": NOON_MS + 4.0}, "durable_first", "broken", -1.0),
        ({"durable_ms": NOON_MS + 4.0, "story": (line(story.RECONCILED, 9.0),)}, "durable_first", "not_applicable", None),
        ({"received_ms": NOON_MS - 98.0}, "frame", "broken", 101.0),
        ({"received_ms": NOON_MS - 98.0, "held_ms": NOON_MS - 98.0, "released_ms": NOON_MS}, "frame", "kept", 3.0),
        ({"held_ms": NOON_MS, "ways": ()}, "frame", "not_applicable", None),
        ({"held_ms": NOON_MS, "ways": ()}, "delivery", "not_applicable", None),
        ({"acknowledged_ms": NOON_MS + 30_001.0}, "answer", "broken", 30_001.0),
        ({"acknowledged_ms": None}, "answer", "broken", 3_600_000.0),
        ({"acknowledged_ms": None, "story": (line(story.ESCALATED, 30_500.0),)}, "answer", "kept", 30_500.0),
        ({"acknowledged_ms": None, "story": (line(story.ESCALATED, 40_000.0),)}, "answer", "broken", 40_000.0),
        ({"ways": (way("arc", 3_001.0),)}, "hedge", "broken", 3_001.0),
        ({"ways": (way("arc", 3_000.0),)}, "hedge", "kept", 3_000.0),
        ({"ways": (way("arc", 25.0), way("arc", None, "restore"))}, "delivery", "kept", 25.0),
        ({"ways": (way("arc", None),)}, "delivery", "broken", None),
    ],
)  # fmt: skip
def test_each_is_judged_by_its_own_limit(changed: dict[str, Any], name: str, verdict: str, measured_ms: float | None) -> None:
    found = judged(replace(QUIET, **changed))[name]
    assert (found.verdict, found.measured_ms) == (verdict, measured_ms)


def test_an_alternate_stands_in_for_its_receiver_and_is_none_of_its_own() -> None:
    hedged = replace(
        QUIET, ways=(way("arc", None), way("arc2", 4_000.0)), story=(line(story.HEDGED, 3_000.0, "arc2", "alarm: arc"),)
    )
    assert judged(hedged)["hedge"].verdict == "kept"
    assert judged(hedged)["delivery"] == Objective("delivery", 100_000.0, 4_000.0, "kept")
    assert judged(replace(hedged, story=()))["hedge"] == Objective("hedge", 3_000.0, 4_000.0, "broken", ("arc", "arc2"))


def test_what_can_still_come_is_open() -> None:
    young = replace(QUIET, acknowledged_ms=None, ways=(way("arc", None),))
    found = judged(young, after_s=2.0)
    assert {name: one.verdict for name, one in found.items()} == {
        "durable_first": "kept", "commit": "kept", "frame": "kept", "hedge": "open", "delivery": "open", "answer": "open",
    }  # fmt: skip
    assert judged(young, after_s=5.0)["hedge"].where == ("arc",)
