"""The drills of a month on paper: what was proved, by which paths, what did not pass, and who is never drilled. Bounded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from iotcore.journal.drill_month import Month, PremisesSum, Wrong
from iotcore.paper.record import Line, Record, Section, draw
from iotcore.registry.city import FIRE_CLASSES
from iotcore.registry.directory import Directory
from iotcore.web.bilingual import DASH, Both

MS_PER_S = 1000.0
PREMISES = 1_000  # with a row of their own, those with something wrong first: some twenty pages
WITHOUT = 500  # named that have no plan
NOTHING = PremisesSum()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a report tells. `premises` are those that it is about; `area` names them, "" for all that `by` may see."""

    month: Month
    name: str  # 2026-11
    start_ms: float
    end_ms: float
    premises: frozenset[str]
    area: str
    directory: Directory
    journal: str
    by: str
    now_ms: float

    def planned(self) -> list[str]:
        """Those whose plan wants drills, and those that had one all the same."""
        wanted = {one for one in self.premises if self.directory.response(one).drills is not None}
        return sorted(wanted | self.month.premises.keys(), key=self._order)

    def unplanned(self) -> list[str]:
        """Those with fire devices whose plan wants none."""
        fire = {one.premises for one in self.directory.devices.values() if one.spec.device_class in FIRE_CLASSES}
        return sorted(one for one in self.premises & fire if self.directory.response(one).drills is None)

    def title(self, premises: str) -> str:
        """A premises as people know it."""
        known = self.directory.premises.get(premises)
        return f"{known.name} ({premises})" if known is not None and known.name else premises

    def _order(self, premises: str) -> tuple[bool, str]:
        return not self.month.premises.get(premises, NOTHING).troubled, self.title(premises)


def drawn(facts: Facts, both: Both) -> bytes:
    """The report as a PDF, not signed yet."""
    sections = [_summary(facts, both), _paths(facts, both), _wrong(facts, both), _premises(facts, both), _without(facts, both)]
    made = datetime.fromtimestamp(facts.now_ms / MS_PER_S, UTC)
    foot = both("report.drills_made", at=both.vi.moment(facts.now_ms), journal=facts.journal)
    return draw(
        Record(
            both.vi("report.drills", month=facts.name),
            both.en("report.drills", month=facts.name),
            made,
            sections,
            f"{foot}\n{both('record.foot')}",
        )
    )


def _summary(facts: Facts, both: Both) -> Section:
    month, planned, unplanned = facts.month, facts.planned(), facts.unplanned()
    proved = sum(month.premises.get(one, NOTHING).passed > 0 for one in planned)
    span = f"{both.vi.moment(facts.start_ms)} {DASH} {both.vi.moment(facts.end_ms)} (UTC+7)"
    if facts.now_ms < facts.end_ms:
        span += f"; {both('report.month_open')}"
    sums = {name: month.count(name) for name in ("passed", "failed", "missed", "put_off", "waiting")}
    return both.section(
        "report.summary",
        lines=[
            both.line("report.areas", facts.area or both("report.all_areas", by=facts.by)),
            both.line("report.month", span),
            both.line("report.planned", both("report.proved", proved=proved, planned=len(planned))),
            both.line("report.unplanned", str(len(unplanned))),
            both.line("report.runs", both("report.by_source", simulated=month.count("simulated"), real=month.count("real"))),
            *(Line(both.vi.of("drill_state", name), both.en.of("drill_state", name), str(count)) for name, count in sums.items()),
            both.line("report.asked_by", facts.by),
        ],
    )


def _paths(facts: Facts, both: Both) -> Section:
    rows = []
    for _, one in sorted(facts.month.paths.items(), key=lambda item: (item[0][0], item[0][1] != item[0][0], item[0][1])):
        stands_in = f" ({both('report.in_place_of', receiver=one.receiver)})" if one.path != one.receiver else ""
        told = one.acknowledged + one.failed + one.waiting
        rows.append(
            (
                one.path + stands_in,
                str(told),
                str(one.acknowledged),
                str(one.failed),
                both.span(one.p50_ms),
                both.span(one.worst_ms),
            )
        )
    columns = (
        *(("report.receiver", 40), ("report.told", 14), ("report.drill_acked", 16), ("report.drill_failed", 14)),
        *(("report.median", 16), ("report.worst", 16)),
    )
    note = "report.paths_note" if rows else "report.no_runs"
    return both.section("report.paths", table=both.table(columns, rows), note=both(note))


def _wrong(facts: Facts, both: Both) -> Section:
    rows = [
        (both.moment(one.at_ms), facts.title(one.premises), _what(one, both), "\n".join(_reasons(one, both)), one.id)
        for one in facts.month.wrong
    ]
    left = facts.month.wrong_in_all - len(rows)
    columns = (
        ("report.at", 22),
        ("report.premises", 34),
        ("report.what", 24),
        ("report.why", 34),
        ("report.drill", 22),
    )
    note = both("report.nothing_wrong") if not rows else both("report.wrong_left", left=left) if left else ""
    return both.section("report.wrong", table=both.table(columns, rows), note=note)


def _what(one: Wrong, both: Both) -> str:
    state = both.of("drill_state", one.state)
    return state if one.state == "missed" else f"{state}: {both.of('drill_source', one.source)}"


def _reasons(one: Wrong, both: Both) -> list[str]:
    told = []
    for path, reason in one.reasons:
        name, _, rest = reason.partition(":")
        word = both.of("drill_reason", name)
        text = (both.of("attempt", name) if word == name else word) + (f":{rest}" if rest else "")
        told.append(f"{path}: {text}" if path else text)
    return told


def _premises(facts: Facts, both: Both) -> Section:
    planned, rows = facts.planned(), []
    for premises in planned[:PREMISES]:
        one, plan = facts.month.premises.get(premises, NOTHING), facts.directory.response(premises).drills
        every = both("report.every_days", days=plan.every_days) if plan is not None else both("report.by_hand")
        rows.append(
            (
                *(facts.title(premises), every, str(one.simulated), str(one.real)),
                *(str(one.passed), str(one.failed), str(one.missed)),
                both.vi.moment(one.last_passed_ms) if one.last_passed_ms is not None else DASH,
                both.span(one.worst_ms),
            )
        )
    left = len(planned) - len(rows)
    columns = (
        *(("report.premises", 40), ("report.drill_plan", 20), ("report.simulated", 13), ("report.real", 11)),
        *(("report.drill_passed", 11), ("report.drill_failed", 11), ("report.drill_missed", 11)),
        *(("report.last_passed", 20), ("report.worst", 14)),
    )
    note = both("report.premises_left", left=left) if left else ""
    return both.section("report.each_premises", table=both.table(columns, rows), note=note)


def _without(facts: Facts, both: Both) -> Section:
    unplanned = facts.unplanned()
    known = [facts.directory.premises.get(one) for one in unplanned[:WITHOUT]]
    rows = [(f"{one.name} ({one.id})", one.address) for one in known if one is not None]
    left = len(unplanned) - len(rows)
    columns = (("report.premises", 40), ("record.address", 60))
    note = both("report.all_planned") if not rows else both("report.without_left", left=left) if left else ""
    return both.section("report.without_plan", table=both.table(columns, rows), note=note)
