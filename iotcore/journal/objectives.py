"""Whether an incident kept the alarm contract: each objective with its limit, what was measured, and a named verdict. Pure.

The limits are those of docs/fire-lane.md and of the receivers' settings; all times are ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from iotcore.journal import story
from iotcore.journal.escalations import FIRST_S, LATE_S
from iotcore.journal.review import Review

MS_PER_S = 1000.0
COMMIT_LIMIT_MS = 250.0  # the alarm contract, 4: what takes longer goes out by the emergency log
FRAME_LIMIT_MS = 100.0  # targets: received to first frame, p99 with the bulk lane saturated
HEDGE_LIMIT_MS = 3_000.0  # the alarm contract, 5: then the alternate path is told too
DELIVERY_LIMIT_MS = 100_000.0  # the alarm contract, 5: then it is a fault of its own
ANSWER_LIMIT_MS = FIRST_S * MS_PER_S  # the alarm contract, 5: then it is escalated
GRACE_MS = LATE_S * MS_PER_S  # until an escalation that has not begun counts as standing still

Name = Literal["durable_first", "commit", "frame", "hedge", "delivery", "answer"]
Verdict = Literal["kept", "broken", "open", "not_applicable", "unknown"]


class Objective(NamedTuple):
    """One of them. `measured_ms` is the worst that there was, None where nothing was; `where` are the channels that broke it."""

    name: Name
    limit_ms: float | None
    measured_ms: float | None
    verdict: Verdict
    where: tuple[str, ...] = ()


def judge(review: Review, now_ms: float) -> tuple[Objective, ...]:
    """All objectives of an incident, as far as they can be judged by now."""
    told = _deliveries(review, now_ms)
    return (_durable_first(review), _commit(review), _frame(review, now_ms), *told, _answer(review, now_ms))


def _durable_first(review: Review) -> Objective:
    """Contract 3: one transaction before the first send; 4 allows the emergency log instead, which the story tells."""
    if review.lines(story.RECONCILED):
        return Objective("durable_first", None, None, "not_applicable")
    if review.durable_ms is None or review.sent_ms is None:
        return Objective("durable_first", None, None, "unknown" if review.durable_ms is None else "open")
    span_ms = review.sent_ms - review.durable_ms
    return Objective("durable_first", None, span_ms, "kept" if span_ms >= 0.0 else "broken")


def _commit(review: Review) -> Objective:
    if review.durable_ms is None:
        return Objective("commit", COMMIT_LIMIT_MS, None, "unknown")
    span_ms = review.durable_ms - review.decided_ms
    return Objective("commit", COMMIT_LIMIT_MS, span_ms, "kept" if span_ms <= COMMIT_LIMIT_MS else "broken")


def _frame(review: Review, now_ms: float) -> Objective:
    """From received, or from the end of a hold that the response plan asked for."""
    if _is_held(review):
        return Objective("frame", FRAME_LIMIT_MS, None, "not_applicable")
    since_ms = review.received_ms if review.released_ms is None else review.released_ms
    return _within("frame", FRAME_LIMIT_MS, since_ms, review.sent_ms, now_ms)


def _deliveries(review: Review, now_ms: float) -> tuple[Objective, Objective]:
    """Each receiver of the alarm: its own acknowledgement in 3 s, else its alternate is told; by either in 100 s."""
    told = _told(review)
    if not told:
        nothing: Verdict = "not_applicable"
        return Objective("hedge", HEDGE_LIMIT_MS, None, nothing), Objective("delivery", DELIVERY_LIMIT_MS, None, nothing)
    alone = [one for one in told if not one.hedged]
    hedge = _each("hedge", HEDGE_LIMIT_MS, [(one, one.own_ms) for one in alone], now_ms)
    return hedge, _each("delivery", DELIVERY_LIMIT_MS, [(one, one.either_ms) for one in told], now_ms)


class _Told(NamedTuple):
    """A receiver that was told the alarm: ms from the posting to its own acknowledgement, and to one by either path."""

    channel: str
    posted_ms: float
    own_ms: float | None
    either_ms: float | None
    hedged: bool  # its alternate was told, too


def _told(review: Review) -> list[_Told]:
    """The receivers; an alternate that only stood in for another is none of its own."""
    alternates: dict[str, str] = {}
    for line in review.lines(story.HEDGED):
        alternates.setdefault(line.detail.rpartition(": ")[2], line.by)
    ways = {way.channel: way for way in review.alarms()}
    found = []
    for way in ways.values():
        if way.channel in alternates.values():
            continue
        other = ways.get(alternates.get(way.channel, ""))
        moments = [one.acknowledged_ms for one in (way, other) if one is not None and one.acknowledged_ms is not None]
        own_ms = None if way.acknowledged_ms is None else way.acknowledged_ms - way.posted_ms
        either_ms = min(moments) - way.posted_ms if moments else None
        found.append(_Told(way.channel, way.posted_ms, own_ms, either_ms, way.channel in alternates))
    return found


def _each(name: Name, limit_ms: float, spans: Sequence[tuple[_Told, float | None]], now_ms: float) -> Objective:
    """What holds of every receiver."""
    late = tuple(one.channel for one, span_ms in spans if (now_ms - one.posted_ms if span_ms is None else span_ms) > limit_ms)
    worst_ms = max((span_ms for _, span_ms in spans if span_ms is not None), default=None)
    waits = any(span_ms is None for _, span_ms in spans)
    return Objective(name, limit_ms, worst_ms, "broken" if late else "open" if waits else "kept", late)


def _answer(review: Review, now_ms: float) -> Objective:
    """A person within 30 s, or the first step of the ladder then."""
    if _is_held(review):
        return Objective("answer", ANSWER_LIMIT_MS, None, "not_applicable")
    since_ms = review.decided_ms if review.released_ms is None else review.released_ms
    told = [line.at_ms for line in review.lines(story.ESCALATED)]
    taken_ms = min((at for at in (review.acknowledged_ms, review.closed_ms) if at is not None), default=None)
    if taken_ms is not None and taken_ms - since_ms <= ANSWER_LIMIT_MS:
        return Objective("answer", ANSWER_LIMIT_MS, taken_ms - since_ms, "kept")
    if told and min(told) - since_ms <= ANSWER_LIMIT_MS + GRACE_MS:
        return Objective("answer", ANSWER_LIMIT_MS, min(told) - since_ms, "kept")
    if taken_ms is None and not told and now_ms - since_ms <= ANSWER_LIMIT_MS + GRACE_MS:
        return Objective("answer", ANSWER_LIMIT_MS, None, "open")
    late_ms = min([*told, *([taken_ms] if taken_ms is not None else [])], default=now_ms) - since_ms
    return Objective("answer", ANSWER_LIMIT_MS, late_ms, "broken")


def _is_held(review: Review) -> bool:
    """Whether its notices wait, or never went out because a reset came first."""
    return review.held_ms is not None and review.released_ms is None


def _within(name: Name, limit_ms: float, since_ms: float, at_ms: float | None, now_ms: float) -> Objective:
    span_ms = (now_ms if at_ms is None else at_ms) - since_ms
    if span_ms > limit_ms:
        return Objective(name, limit_ms, span_ms, "broken")
    return Objective(name, limit_ms, None if at_ms is None else span_ms, "open" if at_ms is None else "kept")
