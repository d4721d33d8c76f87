"""`iotcore rule test`: when a rule would have fired, and how often, on a file's readings or on what a store has recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from iotcore.alarms import replay, rule_book, rule_saving
from iotcore.alarms.replay import Evidence, Firing, Replay
from iotcore.alarms.rules import Rule
from iotcore.clock import Clock
from iotcore.commands import moments
from iotcore.commands.near import near
from iotcore.commands.rule import Book, documents_in, opened
from iotcore.commands.rule_file import CSV, Columns, ReadingFile, made_up
from iotcore.errors import StartError
from iotcore.process import backtest
from iotcore.process.backtest import Trial
from iotcore.registry.directory import Binding
from iotcore.registry.groups import Groups, GroupStore
from iotcore.settings import Settings
from iotcore.telemetry import reported
from iotcore.telemetry.query import open_query
from iotcore.telemetry.stores import TELEMETRY_DB

PAGE = 5_000  # readings of a file at once
DAY_MS = 86_400_000.0
DETECTOR_MODEL = "iotcore-smoke-heat"  # what measures smoke and heat as a CSV file holds them
STAND_IN = "replay"
Row = dict[str, Any]
TOLD: Mapping[str, str] = {
    "time": "it was stopped for the time it took: not all was judged",
    "rows": "it was stopped for the number of readings: not all was judged",
    "devices": "there are more devices than were judged",
    "latched": "each time it held anew counts; in life a latched alarm stands until it is reset",
    "coalesced": "a store has what was stored: above its rate a fire device's readings are kept as changes and peaks only",
    "gaps": "{gaps} gaps, {gaps_s:.0f} s together: nothing is known of them",
    "no_data": "{without} of {devices} devices have no reading in this time",
    "starts_late": "the first reading is of {first}: what was before is not stored, or is a mean, and no rule judges means",
    "bad": "{bad} values were bad or uncertain, and decide nothing; why they were is not stored",
    "tests": "{tests} readings were tests, and count for nothing",
    "groups_now": "who is in a group is taken as it is now",
    "refused": "{refused} lines were refused",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to try: a rule by its key, or the file of an edited one; on a file, or on the store from `start` to `end`."""

    rule: str
    file: Path | None = None
    start: str = "-7d"
    end: str = "now"
    devices: Sequence[str] = ()
    premises: Sequence[str] = ()
    groups: Sequence[str] = ()
    compare: bool = False
    columns: Columns = field(default_factory=Columns)


@dataclass(frozen=True, slots=True)
class _Tried:
    """The rule that is tried, and the rules of its id with it and (to compare) without it."""

    rule: Rule
    name: str
    sets: Sequence[Sequence[Rule]]
    titles: Sequence[str]


async def run(settings: Settings, clock: Clock, wanted: Wanted) -> Row:
    """Try it; the answer as plain data.

    Raises:
        StartError: there is no such rule, device, premises or group.
        ConfigError: the rule's file or the readings' file is wrong.
        QueryError: the store does not answer.
    """
    async with opened(settings, clock) as book:
        tried = _tried(book, wanted)
        members = Groups()
        firmware = await asyncio.to_thread(reported.firmware, settings.folder / TELEMETRY_DB)
        members.follow(await GroupStore(book.registry.database).all(), book.known.directory, firmware)
        if wanted.file is not None:
            return await _on_file(book, tried, wanted, members)
        span_ms = moments.span_ms(wanted.start, wanted.end, clock.wall_ms())
        devices = _devices(book, tried, wanted, members)
        trial = Trial(tried.rule.id, tried.sets, devices, span_ms, members.of, _profiles(book))
        async with open_query(settings, clock) as query:
            replays, evidence = await backtest.run(query, trial, clock)
        return _answer(book, tried, replays, evidence, span_ms)


def _tried(book: Book, wanted: Wanted) -> _Tried:
    path = Path(wanted.rule)
    if path.suffix in {".yaml", ".yml"}:
        found = rule_saving.check(documents_in(path), book.known)
        if len(found) != 1:
            raise StartError(f"{path} holds {len(found)} rules", "Try them one by one: a file with one rule.")
        (one,) = found.values()
        now = [kept.rule for kept in book.ruled.in_use.values()]
        edited = [kept.rule for kept in {**book.ruled.in_use, one.key: rule_book.Kept(one.key, one.rule)}.values()]
        sets, titles = ([now, edited], ["in use", str(path)]) if wanted.compare else ([edited], [str(path)])
        return _Tried(one.rule, one.key, sets, titles)
    kept = book.of(wanted.rule)
    if not wanted.compare:
        return _Tried(kept.rule, kept.key, [book.ruled.rules], ["in use"])
    base = rule_book.book(book.known.base, ())
    before = {**book.ruled.in_use, **({kept.key: base[kept.key]} if kept.key in base else {})}
    if kept.key not in base:
        before.pop(kept.key)
    return _Tried(kept.rule, kept.key, [[one.rule for one in before.values()], book.ruled.rules], ["base", "in use"])


def _devices(book: Book, tried: _Tried, wanted: Wanted, members: Groups) -> list[Binding]:
    """The devices that are asked for, of those that the rule is for."""
    directory = book.known.directory
    _insist("device", wanted.devices, directory.devices)
    _insist("premises", wanted.premises, directory.premises)
    chosen = {device for group in wanted.groups for device in members.members(group)} | set(wanted.devices)
    places = set(wanted.premises)
    anything = not (wanted.groups or wanted.devices or places)
    asked = [one for one in directory.devices.values() if anything or one.device in chosen or one.premises in places]
    found = replay.covered([tried.rule], asked, members.of)
    if not found:
        raise StartError(f"The rule {tried.name} covers none of these devices", "See its device_classes, models and scope.")
    return found


def _profiles(book: Book) -> replay.Profiles:
    return lambda premises: book.known.directory.response(premises).profile


def _insist(what: str, names: Collection[str], there: Collection[str]) -> None:
    for name in names:
        if name not in there:
            raise StartError(f"There is no {what} {name}", near(name, there))


async def _on_file(book: Book, tried: _Tried, wanted: Wanted, members: Groups) -> Row:
    assert wanted.file is not None
    stand_in, known = _actors(book, tried, wanted)
    group = tried.rule.group

    def groups_of(device: str) -> frozenset[str]:
        return members.of(device) | {group} if device == STAND_IN and group else members.of(device)

    source = ReadingFile(wanted.file, stand_in, known, wanted.columns)
    replays = [Replay(rules, tried.rule.id, groups_of, _profiles(book)) for rules in tried.sets]
    for one in replays:
        one.begin(stand_in.premises)
    evidence = Evidence()
    await asyncio.to_thread(_feed, replays, iter(source), evidence)
    evidence.devices, evidence.refused = evidence.with_data, source.refused
    start_ms = evidence.first_ms or 0.0
    answer = _answer(
        book, tried, replays, evidence, (start_ms, evidence.last_ms or start_ms), stored=False, curve=wanted.file.suffix in CSV
    )
    return {**answer, "file": str(wanted.file), **({"refused": source.reasons} if source.reasons else {})}


def _feed(replays: Sequence[Replay], source: Iterator[Any], evidence: Evidence) -> None:
    while page := list(islice(source, PAGE)):
        replay.feed(replays, page, evidence)


def _actors(book: Book, tried: _Tried, wanted: Wanted) -> tuple[Binding, Mapping[str, Binding]]:
    """Who is said to have measured a curve, and the devices that lines may name."""
    devices = book.known.directory.devices
    _insist("device", wanted.devices, devices)
    if len(wanted.devices) > 1 and wanted.file is not None and wanted.file.suffix in CSV:
        raise StartError("A CSV file is what one detector has measured", "Give --device once.")
    name = wanted.devices[0] if wanted.devices else tried.rule.device
    if name:
        return devices[name], {one: devices[one] for one in wanted.devices} if wanted.devices else devices
    model = DETECTOR_MODEL if tried.rule.covers(book.known.specs[DETECTOR_MODEL]) else next(iter(tried.rule.models), "")
    spec = book.known.specs[model or DETECTOR_MODEL]
    places = set(wanted.premises)
    there = {name: one for name, one in devices.items() if one.premises in places} if places else devices
    return made_up(STAND_IN, spec, tried.rule.premises), there


def _answer(
    book: Book,
    tried: _Tried,
    replays: Sequence[Replay],
    evidence: Evidence,
    span_ms: tuple[float, float],
    *,
    stored: bool = True,
    curve: bool = False,
) -> Row:
    days = (span_ms[1] - span_ms[0]) / DAY_MS
    told = _on_curve if curve else plain
    names = {one.id: one.name for one in book.known.directory.premises.values()}
    rules = [rule for one in tried.sets for rule in one if rule.id == tried.rule.id]
    notes = replay.notes(evidence, rules, span_ms[0], stored=stored)
    facts = {
        **{name: getattr(evidence, name) for name in ("devices", "gaps", "gaps_s", "bad", "tests", "refused")},
        "without": evidence.devices - evidence.with_data,
        "first": moments.utc(evidence.first_ms or 0.0),
    }
    return {
        "rule": tried.name,
        "from": moments.utc(span_ms[0]),
        "to": moments.utc(span_ms[1]),
        "days": round(days, 3),
        "judged": {"devices": evidence.devices, "with_data": evidence.with_data, "readings": evidence.readings},
        "versions": [
            {
                "version": title,
                "fires": one.outcome.count,
                "first_alarms": one.outcome.first_alarms,
                "per_day": round(one.outcome.count / days, 3) if stored else None,
                "premises": [
                    {"premises": where, "name": name, "fires": n} for where, name, n in replay.per_premises(one.outcome, names)
                ],
                "firings": [told(firing) for firing in sorted(one.outcome.firings, key=lambda firing: firing.at_ms)],
            }
            for title, one in zip(tried.titles, replays, strict=True)
        ],
        "cannot_tell": {name: TOLD[name].format(**facts) for name in notes},
        **({"side_by_side": _pairs(replays, told)} if len(replays) > 1 else {}),
    }


def _pairs(replays: Sequence[Replay], told: Callable[[Firing], Row]) -> list[Row]:
    before, after = (one.outcome.firings for one in replays)
    return [
        {
            "device": (one or two).device,  # type: ignore[union-attr]  # one of them is there
            "first": told(one) if one is not None else None,
            "second": told(two) if two is not None else None,
            "later_s": round((two.at_ms - one.at_ms) / 1000.0, 3) if one is not None and two is not None else None,
        }
        for one, two in replay.paired(before, after)
    ]


def plain(firing: Firing) -> Row:
    """A firing for programs and lists, its time on the city's clock and in UTC."""
    return {
        "local": moments.local(firing.at_ms),
        "utc": moments.utc(firing.at_ms),
        "device": firing.device,
        "premises": firing.premises,
        "severity": firing.severity,
        "rule": firing.rule,
        "reason": firing.reason,
        "point": firing.point,
        "value": firing.value,
        "unit": firing.unit,
    }


def _on_curve(firing: Firing) -> Row:
    """The same on the seconds of a measured fire."""
    return {
        "at_s": firing.at_ms / 1000.0,
        **{name: value for name, value in plain(firing).items() if name not in {"local", "utc"}},
    }


def table(answer: Row) -> list[str]:
    """The answer for a person, line by line."""
    on = f"on {answer['file']}" if "file" in answer else f"from {answer['from']} to {answer['to']} ({answer['days']:g} days)"
    lines = [f"rule {answer['rule']} {on}"]
    for one in answer["versions"]:
        rate = f", {one['per_day']:g} a day" if one["per_day"] is not None else ""
        first = f"; {one['first_alarms']} first alarms" if one["first_alarms"] else ""
        lines += ["", f"{one['version']}: would have fired {_times(one['fires'])}{rate}{first}"]
        lines += [f"  {place['premises'] or '–'}  {place['name']}: {place['fires']}" for place in one["premises"]]
        if "side_by_side" not in answer:
            lines += [f"  {_line(firing)}" for firing in one["firings"]]
            more = one["fires"] + one["first_alarms"] - len(one["firings"])
            lines += [f"  and {more} more"] if more else []
    for pair in answer.get("side_by_side", ()):
        lines += ["", f"{pair['device']}:"]
        for version, which in zip(answer["versions"], ("first", "second"), strict=True):
            firing = pair[which]
            later = f" ({pair['later_s']:+g} s)" if which == "second" and pair["later_s"] is not None else ""
            lines.append(f"  {version['version']}: {_line(firing) if firing else 'does not fire'}{later}")
    judged = answer["judged"]
    lines += ["", f"judged: {judged['readings']} readings of {judged['with_data']} devices (of {judged['devices']})"]
    lines += [f"cannot tell: {text}" for text in answer["cannot_tell"].values()]
    return lines + [f"refused: {reason}" for reason in answer.get("refused", ())]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _line(firing: Row) -> str:
    value = f"{firing['value']:g}" if isinstance(firing["value"], float) else firing["value"]
    said = f"{firing['device']}  {firing['point']} {value} {firing['unit']}".rstrip()
    when = f"at {firing['at_s']:g} s" if "at_s" in firing else f"{firing['local']} ({firing['utc']})"
    return f"{when}  {said}  {firing['reason']}  {firing['severity']}"
