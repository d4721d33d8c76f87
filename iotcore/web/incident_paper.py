"""The after-action report of an incident: what the journal and the registry know of it, in both languages, on paper.

Bounded however long the fire went on (`journal.review`); what is left out is counted on the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from iotcore.journal import cad, story
from iotcore.journal.case import Told
from iotcore.journal.objectives import Objective, Verdict
from iotcore.journal.review import Review, Way
from iotcore.paper.record import Checked, Line, Record, Section, draw
from iotcore.registry.directory import Directory
from iotcore.registry.stood import Stood, Version
from iotcore.web.bilingual import DASH, Both

MS_PER_S = 1000.0
CONDITION: dict[Verdict, str] = {"kept": "done", "broken": "failed", "open": "waiting"}
ACTS = (story.ACKNOWLEDGED, story.SILENCED, story.RESET)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a report tells. `journal` names where the facts are from, `by` who asked, `now_ms` is our clock (UTC)."""

    review: Review
    stood: Stood
    objectives: tuple[Objective, ...]
    directory: Directory
    journal: str
    by: str
    now_ms: float


def drawn(facts: Facts, both: Both) -> bytes:
    """The report as a PDF, not signed yet."""
    review = facts.review
    open_ = review.state == "open"
    sections = [
        _head(facts, both),
        _place(facts, both),
        _first(facts, both),
        _points(facts, both),
        _road(review, both),
        _receivers(review, both),
        _objectives(facts, both),
        _answers(review, both),
        _stood(facts, both),
        _story(review, both),
    ]
    title = "report.title_open" if open_ else "report.title"
    made = datetime.fromtimestamp(facts.now_ms / MS_PER_S, UTC)
    foot = both("report.made", at=both.vi.moment(facts.now_ms), journal=facts.journal, cursor=review.cursor)
    return draw(Record(both.vi(title), both.en(title), made, sections, f"{foot}\n{both('record.foot')}"))


def _head(facts: Facts, both: Both) -> Section:
    review = facts.review
    ended = both("report.ended", at=both.moment(review.closed_ms), by=review.closed_by)
    known = ended if review.state != "open" else both("report.not_ended")
    dispositions = [line.detail for line in review.lines(story.CLOSED) if line.detail]
    owner = both.of("owner_said", review.owner_said) if review.owner_said else ""
    return both.section(
        "report.incident",
        lines=[
            both.line("report.number", review.incident),
            both.line("report.state", known),
            both.line("report.from", both.moment(review.detector_ms)),
            both.line("report.disposition", "; ".join([*dispositions, *([owner] if owner else [])])),
            both.line("report.asked_by", facts.by),
            both.line("report.source", f"{facts.journal}, {both('report.change', number=review.cursor)}"),
        ],
    )


def _place(facts: Facts, both: Both) -> Section:
    """As the receivers were told; the areas as they are registered now."""
    notice, directory = facts.review.notice, facts.directory
    floor = both.pair(both.vi.floor(notice.floor), both.en.floor(notice.floor)) if notice.floor else ""
    zone = both("incident.zone", number=notice.zone_number, name=notice.zone_name) if notice.zone_name else ""
    known = directory.premises.get(notice.premises)
    areas = [directory.areas[area].name for area in directory.upwards(known.area)] if known is not None else []
    return both.section(
        "report.place",
        lines=[
            both.line("record.premises", f"{notice.premises_name} ({notice.premises})"),
            both.line("record.address", notice.address),
            both.line("report.areas", ", ".join(areas)),
            both.line("record.degrees", f"{notice.latitude:.6f}, {notice.longitude:.6f}"),
            both.line("record.floor", " · ".join(part for part in (floor, zone) if part)),
            both.line("report.account", notice.account),
            both.line("report.plan", _version(facts.stood.plan, both) if facts.stood.plan else both("response.none")),
        ],
    )


def _first(facts: Facts, both: Both) -> Section:
    notice = facts.review.notice
    rules = [f"{one.key}: {_version(one, both)}" for one in facts.stood.rules]
    marks = [both(f"incident.{name}") for name in ("delayed", "unconfirmed") if getattr(notice, name)]
    return both.section(
        "report.first",
        lines=[
            both.line("report.point", both.point(facts.directory, notice.device, notice.point)),
            both.line("record.where", notice.location),
            both.line("report.signal", f"{both.of('hazard', notice.hazard)}: {both.value(notice.value, notice.unit)}"),
            both.line("report.reason", both.of("reason", notice.reason)),
            both.line("report.rule", notice.rule),
            both.line("report.rule_version", "; ".join(rules) or both("report.rule_of_file")),
            both.line("report.marks", "; ".join(marks)),
        ],
    )


def _points(facts: Facts, both: Both) -> Section:
    review, rows = facts.review, []
    for one in review.points:
        said = ""
        if one.notice is not None:
            said = f"{both.value(one.notice.value, one.notice.unit)}; {both.of('reason', one.notice.reason)}"
        after = both.span(one.at_ms - review.decided_ms)
        rows.append((str(one.place), both.moment(one.at_ms), after, both.point(facts.directory, one.device, one.point), said))
    told = both("report.points_told", points=review.points_in_all, devices=review.devices_in_all)
    left = review.points_in_all - len(review.points)
    columns = (
        ("report.place_in_order", 6),
        ("report.at", 22),
        ("report.after_first", 13),
        ("report.point", 40),
        ("report.said", 30),
    )
    return both.section(
        "report.points",
        lines=[both.line("report.counted", told)],
        table=both.table(columns, rows),
        note=both("report.points_left", shown=len(review.points), left=left) if left else "",
    )


def _road(review: Review, both: Both) -> Section:
    rows: list[tuple[str, ...]] = []
    before: float | None = None
    for name, at_ms in review.moments():
        step = both.of("report_step", name)
        if name == "acknowledged" and review.acknowledged_by:
            step = f"{step}: {review.acknowledged_by}"
        after = None if at_ms is None or before is None else at_ms - before
        whole = None if at_ms is None else at_ms - review.detector_ms
        rows.append((step, both.moment(at_ms), both.span(after), both.span(whole)))
        before = at_ms if at_ms is not None else before
    columns = (("report.step", 40), ("report.at", 30), ("report.after_before", 20), ("report.after_detector", 20))
    held = []
    if review.held_ms is not None:
        held = [
            both.line("report.held", both.moment(review.held_ms)),
            both.line("report.released", both.moment(review.released_ms)),
        ]
    return both.section("report.road", lines=held, table=both.table(columns, rows), note=both("report.road_note"))


def _receivers(review: Review, both: Both) -> Section:
    stands_in = {line.by: line.detail.rpartition(": ")[2] for line in review.lines(story.HEDGED)}
    rows = [_way(way, stands_in.get(way.channel, ""), both) for way in review.ways]
    columns = (
        *(("report.receiver", 20), ("report.notice", 22), ("report.sent", 22), ("report.answered", 24)),
        *(("report.took", 11), ("report.failed", 30)),
    )
    return both.section(
        "report.receivers", table=both.table(columns, rows), note="" if rows else both("case.nobody")
    )  # fmt: skip


def _way(way: Way, stands_in: str, both: Both) -> tuple[str, ...]:
    told = both.of("told", way.event)
    if way.count > 1:
        told = f"{told}: {both('report.of', done=way.acknowledged, count=way.count)}"
    if way.withheld:
        told = f"{told}; {both('report.withheld', count=way.withheld)}"
    took = None if way.acknowledged_ms is None else way.acknowledged_ms - way.posted_ms
    why = [f"{both.of('attempt', one.kind)} × {one.times}" for one in way.failures]
    unexplained = way.failed - sum(one.times for one in way.failures)
    if unexplained > 0:
        why.append(both("report.unexplained", count=unexplained))
    if way.acknowledged < way.count and way.last_error:
        why.append(way.last_error)
    failed = f"{way.failed}" + (f": {'; '.join(why)}" if why else "")
    answer = both.moment(way.acknowledged_ms) + (f" {way.reply}" if way.reply else "")
    path = way.channel + (f" ({both('report.in_place_of', receiver=stands_in)})" if stands_in else "")
    return path, told, both.moment(way.sent_ms), answer, both.span(took), failed


def _objectives(facts: Facts, both: Both) -> Section:
    steps = []
    for one in facts.objectives:
        limit = "" if one.limit_ms is None else f" (≤ {both.span(one.limit_ms)} ms)"
        said = [both.of("verdict", one.verdict)]
        if one.measured_ms is not None:
            said.append(f"{both.span(one.measured_ms)} ms")
        said += one.where
        vi, en = both.vi.of("objective", one.name), both.en.of("objective", one.name)
        condition = CONDITION.get(one.verdict, "apart")
        steps.append(Checked(condition, vi, en + limit, ", ".join(said)))  # type: ignore[arg-type]  # one of its four
    return both.section("report.objectives", steps=steps)


def _answers(review: Review, both: Both) -> Section:
    """Who answered, and what became of it: escalation, acts, owner, dispatch centre."""
    lines = [both.line("report.escalated", _detail(line, both, at=True)) for line in review.lines(story.ESCALATED)]
    if not lines:
        lines = [both.line("report.escalated", both("report.nobody_escalated"))]
    taken = f"{both.moment(review.acknowledged_ms)} {review.acknowledged_by}" if review.acknowledged_ms is not None else ""
    lines.append(both.line("report.answered_by", taken))
    said = f"{both.of('owner_said', review.owner_said)}, {both.moment(review.owner_ms)} {review.owner_by}"
    lines.append(both.line("report.owner", said if review.owner_said else ""))
    lines += [_told(line, both) for line in review.lines(*ACTS)]
    centre = review.lines(*cad.STATUSES.values())
    lines += [_told(line, both) for line in centre] or [both.line("report.centre", "")]
    return both.section("report.answers", lines=lines)


def _kind(kind: str, both: Both) -> str:
    return both.of("cad" if kind in cad.STATUSES.values() else "story", kind)


def _told(line: Told, both: Both) -> Line:
    detail = f": {line.detail}" if line.detail else ""
    family = "cad" if line.kind in cad.STATUSES.values() else "story"
    return Line(both.vi.of(family, line.kind), both.en.of(family, line.kind), f"{both.moment(line.at_ms)} {line.by}{detail}")


def _stood(facts: Facts, both: Both) -> Section:
    rows = [*_out(facts, both)]
    for one in facts.review.standing:
        word = both.fault(one.what) if one.severity == "trouble" else f"{both.of('severity', one.severity)}: {one.what}"
        rows.append((word, both.device(facts.directory, one.device), both.moment(one.since_ms), both.moment(one.cleared_ms), ""))
    left = facts.review.standing_in_all - len(facts.review.standing)
    notes = [both("report.stood_note")] if rows else [both("report.stood_nothing")]
    if left:
        notes.append(both("report.stood_left", left=left))
    columns = (("report.what", 34), ("report.where", 28), ("report.since", 22), ("report.until", 22), ("report.who", 24))
    return both.section("report.stood", table=both.table(columns, rows), note=" ".join(notes))


def _out(facts: Facts, both: Both) -> Iterator[tuple[str, str, str, str, str]]:
    for out in facts.stood.disablements:
        until = both.moment(out.ended_ms if out.ended_ms is not None else out.until_ms)
        who = f"{out.by}: {out.reason}" + (f" ({out.confirmed_by})" if out.confirmed_by else "")
        place = out.target.subject + (f"/{out.target.point}" if out.target.point else "")
        yield f"{both('report.disabled')}: {both.of('out_kind', out.target.kind)}", place, both.moment(out.started_ms), until, who
    for walk in facts.stood.walks:
        until = both.moment(walk.ended_ms if walk.ended_ms is not None else walk.until_ms)
        yield both("out.walk"), walk.zone or walk.premises, both.moment(walk.started_ms), until, walk.by
    for test in facts.stood.tests:
        where = both.device(facts.directory, test.device)
        yield both("report.test_mode"), where, both.moment(test.started_ms), both.moment(test.ended_ms), test.by


def _story(review: Review, both: Both) -> Section:
    rows = [(both.moment(one.at_ms), _kind(one.kind, both), one.by, _detail(one, both)) for one in review.story]
    shown: dict[str, int] = {}
    for one in review.story:
        shown[one.kind] = shown.get(one.kind, 0) + 1
    left = [
        f"{_kind(kind, both)}: {count - shown.get(kind, 0)}"
        for kind, count in sorted(review.story_in_all.items())
        if count > shown.get(kind, 0)
    ]
    columns = (("report.at", 24), ("report.what", 30), ("report.who", 20), ("report.detail", 50))
    note = both("report.story_left", left="; ".join(left)) if left else ""
    return both.section("report.story", table=both.table(columns, rows), note=note)


def _detail(line: Told, both: Both, *, at: bool = False) -> str:
    """A line's detail as people read it."""
    text = line.detail
    first, _, rest = text.partition(": ")
    if line.kind in {story.OPENED, story.JOINED} and rest:
        text = f"{first}: {both.of('reason', rest)}"
    elif line.kind == story.ESCALATED and rest:
        text = f"{both('report.rung', number=first)}: {rest}"
    elif line.kind == story.HEDGED and rest:
        text = f"{both.of('told', first)}: {both('report.in_place_of', receiver=rest)}"
    return f"{both.moment(line.at_ms)} {text}" if at else text


def _version(one: Version, both: Both) -> str:
    key = "report.version_removed" if one.removed else "report.version"
    return both(key, version=one.version, by=one.by or DASH, at=both.vi.moment(one.at_ms))
