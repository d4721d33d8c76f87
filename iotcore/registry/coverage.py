"""Coverage: which key sites have a fire device that would tell of a fire today, and what the others lack.

A key site is covered by one fire device that counts: it is active, not told offline, heard within three of its intervals (at
least five minutes), and a test alarm of it came through within `tested_within_days`. Pure: a Directory, signs of life and the
present go in; times are ms UTC.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from iotcore.registry.directory import Binding, Directory, Premises
from iotcore.wire.topics import FIRE_DOMAIN

DAY_MS = 86_400_000
LIVE_INTERVALS = 3  # two readings may be lost on the way before a device counts as silent
LIVE_LEAST_S = 300.0
TESTED_WITHIN_DAYS = 365  # NFPA 72, table 14.4.3.2: initiating devices are tested once a year
EVERYWHERE = ""  # the area that holds all others

Presence = Literal["online", "offline", "silent"]
Reason = Literal["no_device", "not_active", "offline", "silent", "never_tested", "test_expired"]
REASONS: tuple[Reason, ...] = get_args(Reason)


@dataclass(frozen=True, slots=True)
class Signs:
    """Signs of life: when each device was last heard, ms UTC, and who is told offline or silent."""

    seen_ms: Mapping[str, float] = field(default_factory=dict)
    offline: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()  # told silent by the fire lane, at their own limit

    def of(self, binding: Binding, now_ms: float) -> Presence:
        """Whether a device is there."""
        if binding.device in self.offline:
            return "offline"
        if binding.device in self.silent:
            return "silent"
        within_ms = max(LIVE_LEAST_S, LIVE_INTERVALS * binding.spec.interval_s) * 1000.0
        return "online" if now_ms - self.seen_ms.get(binding.device, 0.0) <= within_ms else "silent"


@dataclass(frozen=True, slots=True)
class Lack:
    """Why so many fire devices of a site do not count, `example` among them.

    `since_ms` is the latest of when they were heard last (offline, silent) or tested last (test_expired); None: never.
    """

    reason: Reason
    devices: int = 0
    example: str = ""
    since_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """A key site: its fire devices, those that are active and there, and those that count. What it lacks, unless covered."""

    premises: str
    area: str
    detectors: int
    live: int
    counting: int
    lacks: tuple[Lack, ...]

    @property
    def covered(self) -> bool:
        """Whether one device counts."""
        return self.counting > 0


@dataclass(frozen=True, slots=True)
class Figure:
    """Key sites of an area with everything below it; `watched` have a device that is there, tested or not."""

    key_sites: int = 0
    watched: int = 0
    covered: int = 0

    @property
    def percent(self) -> float | None:
        """The share of covered key sites; None where there is no key site."""
        return 100.0 * self.covered / self.key_sites if self.key_sites else None


@dataclass(frozen=True, slots=True)
class Coverage:
    """The key sites by premises, and the figures by area: EVERYWHERE, and each area of the directory."""

    at_ms: float
    sites: Mapping[str, Site]
    figures: Mapping[str, Figure]

    def missing(self) -> list[Site]:
        """The sites that are not covered: those that nothing watches first, then by what they lack, then by name."""
        order = {reason: i for i, reason in enumerate(REASONS)}
        found = [site for site in self.sites.values() if not site.covered]
        return sorted(found, key=lambda site: (site.live > 0, min(order[lack.reason] for lack in site.lacks), site.premises))


def assess(directory: Directory, signs: Signs, now_ms: float, tested_within_days: float = TESTED_WITHIN_DAYS) -> Coverage:
    """Judge every key site now."""
    detectors: dict[str, list[Binding]] = {name: [] for name, one in directory.premises.items() if one.key_site}
    for binding in directory.devices.values():
        if binding.domain == FIRE_DOMAIN and binding.premises in detectors:
            detectors[binding.premises].append(binding)
    moment = _Moment(signs, now_ms, now_ms - tested_within_days * DAY_MS)
    sites = {name: _site(directory.premises[name], found, moment) for name, found in detectors.items()}
    return Coverage(now_ms, sites, _figures(directory, sites.values()))


def within(coverage: Coverage, directory: Directory, areas: Collection[str]) -> Coverage:
    """The same as if there were nothing outside these areas; a city is given with its wards."""
    sites = {name: site for name, site in coverage.sites.items() if site.area in areas}
    figures = _figures(directory, sites.values())
    return Coverage(coverage.at_ms, sites, {area: one for area, one in figures.items() if area == EVERYWHERE or area in areas})


@dataclass(frozen=True, slots=True)
class _Moment:
    signs: Signs
    now_ms: float
    tested_since_ms: float


def _site(premises: Premises, detectors: list[Binding], moment: _Moment) -> Site:
    live = counting = 0
    lacks: dict[Reason, Lack] = {} if detectors else {"no_device": Lack("no_device")}
    for binding in detectors:
        found = tuple(_lacks(binding, moment))
        live += not any(lack.reason in {"not_active", "offline", "silent"} for lack in found)
        counting += not found
        for lack in found:
            lacks[lack.reason] = _joined(lacks.get(lack.reason), lack)
    ordered = () if counting else tuple(lacks[reason] for reason in REASONS if reason in lacks)
    return Site(premises.id, premises.area, len(detectors), live, counting, ordered)


def _lacks(binding: Binding, moment: _Moment) -> Iterator[Lack]:
    """Why a device does not count; one that is not active needs nothing said of the rest."""
    if binding.state != "active":
        yield Lack("not_active", 1, binding.device)
        return
    presence = moment.signs.of(binding, moment.now_ms)
    if presence != "online":
        yield Lack(presence, 1, binding.device, moment.signs.seen_ms.get(binding.device))
    if binding.tested_ms is None:
        yield Lack("never_tested", 1, binding.device)
    elif binding.tested_ms < moment.tested_since_ms:
        yield Lack("test_expired", 1, binding.device, binding.tested_ms)


def _joined(known: Lack | None, lack: Lack) -> Lack:
    """Both as one: the example is the device that has been missed the shortest."""
    if known is None:
        return lack
    newer = (lack.since_ms or 0.0) > (known.since_ms or 0.0)
    example, since_ms = (lack.example, lack.since_ms) if newer else (known.example, known.since_ms)
    return Lack(lack.reason, known.devices + 1, example, since_ms)


def _figures(directory: Directory, sites: Iterable[Site]) -> dict[str, Figure]:
    counts = {area: [0, 0, 0] for area in (EVERYWHERE, *directory.areas)}
    above: dict[str, tuple[str, ...]] = {}
    for site in sites:
        if site.area not in above:
            above[site.area] = (EVERYWHERE, *directory.upwards(site.area))
        for area in above[site.area]:
            count = counts[area]
            count[0] += 1
            count[1] += site.live > 0
            count[2] += site.covered
    return {area: Figure(*count) for area, count in counts.items()}
