"""Holding a draft against the registry: everything that is wrong with it, and what storing it would add and change.

What a draft does not say of an entry that is there already stays as it is: a file without a column for hydrants loses none. An
entry that names a refused one is refused too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from tortoise.backends.base.client import BaseDBAsyncClient

from iotcore.errors import ConfigError, Problem
from iotcore.registry import bulk, city, siting, units
from iotcore.registry.draft import Draft, Fault
from iotcore.registry.kinds import KINDS, Fields, Kind
from iotcore.registry.records import Imported
from iotcore.specs.model import DeviceSpec
from iotcore.strict import convert


@dataclass(frozen=True, slots=True)
class Judged:
    """What can be stored of a draft and is not there yet; what that would do, by kind; and what is refused, by row."""

    wanted: city.City
    outcome: dict[str, Imported]
    faults: list[Fault]
    refused: dict[str, dict[int, str]]

    def insist(self, name: str) -> None:
        """All of it, or nothing.

        Raises:
            ConfigError: with everything that is wrong, without what is only so because another entry is refused.
        """
        roots = [one for one in self.faults if not one.follows]
        if roots:
            raise ConfigError([Problem(name, one.where, one.reason) for one in roots])


async def judge(db: BaseDBAsyncClient, draft: Draft, specs: Mapping[str, DeviceSpec]) -> Judged:
    """Everything that is wrong with a draft, and what would change."""
    judging = _Judging(draft)
    before = {}
    for name, kind in KINDS.items():
        ids = {entry["id"] for entry in draft.entries[name] if isinstance(entry.get("id"), str)}
        before[name] = await bulk.there(db, kind, ids if len(ids) <= bulk.ALL_FROM else None)
        judging.shape(kind, before[name])
    known = await bulk.known(db, judging.good)
    standing = await units.standing(db, before["devices"] if len(before["devices"]) <= bulk.ALL_FROM else None)
    while judging.relations(specs, known, standing):  # who names a refused entry is refused in the next round
        pass
    wanted, outcome = _differing(judging.good, before)
    draft.told += siting.advice(wanted.devices, {one.id: one.name for one in judging.good.zones}, specs)
    order = list(KINDS)
    faults = sorted(draft.faults, key=lambda fault: (order.index(fault.kind) if fault.kind in KINDS else -1, fault.row))
    return Judged(wanted, outcome, faults, draft.refused)


class _Judging:
    """A draft while it is judged: `good` are the entries that are still well, `rows` their rows beside them."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self.good = city.City(**{kind: [] for kind in KINDS})
        self._rows: dict[str, list[int]] = {kind: [] for kind in KINDS}

    def shape(self, kind: Kind, before: Mapping[str, Sequence[Any]]) -> None:
        """Whether each entry has the fields of its kind, taking what it does not say from what is there."""
        name, draft = kind.plural, self._draft
        good: list[Any] = getattr(self.good, name)
        for row, said in zip(draft.rows[name], draft.entries[name], strict=True):
            entry = _completed(kind, said, before)
            try:
                good.append(msgspec.convert(entry, kind.entry))
            except msgspec.ValidationError:
                for key, reason in _misshapen(kind, entry):
                    draft.blame(name, row, key, said.get(key), reason)
                draft.refuse(name, row, said)
            else:
                self._rows[name].append(row)

    def relations(self, specs: Mapping[str, DeviceSpec], known: city.Known, standing: Mapping[str, tuple[str, str]]) -> bool:
        """Refuse what refers to nothing, clashes, does not fit, or would change a unit; whether there was any."""
        draft, bad = self._draft, {kind: set[int]() for kind in KINDS}
        lost = {kind: {one: row for row, one in rows.items() if one} for kind, rows in draft.refused.items()}
        for kind, number, key, reason in [*city.faults(self.good, specs, known), *units.moved(self.good.devices, standing)]:
            entry = getattr(self.good, kind)[number]
            target = KINDS[kind].references.get(key, "")
            row = lost.get(target, {}).get(getattr(entry, key))
            why = reason if row is None or not reason.startswith("no ") else f"{draft.where(target, row)} is refused itself"
            draft.blame(kind, self._rows[kind][number], key, getattr(entry, key), why, follows=why != reason)
            bad[kind].add(number)
        for kind, numbers in bad.items():
            for number in numbers:
                draft.refuse(kind, self._rows[kind][number], {"id": getattr(self.good, kind)[number].id})
            self._rows[kind] = [row for number, row in enumerate(self._rows[kind]) if number not in numbers]
        kept = {kind: [e for i, e in enumerate(getattr(self.good, kind)) if i not in bad[kind]] for kind in KINDS}
        self.good = city.City(**kept)
        return any(bad.values())


def _completed(kind: Kind, said: Fields, before: Mapping[str, Sequence[Any]]) -> Fields:
    """An entry with what it leaves out, where it is there already."""
    one = said.get("id")
    if len(said) >= len(kind.fields) or not isinstance(one, str) or one not in before:
        return said
    return {**kind.plain(before[one]), **said}


def _misshapen(kind: Kind, entry: Fields) -> list[tuple[str, str]]:
    """Everything that is wrong with an entry by itself: key, and why."""
    try:
        convert(entry, kind.entry, "")
    except ConfigError as error:
        described = {field.name: _described(field.type) for field in msgspec.structs.fields(kind.entry)}
        return [(one.path, f"{one.reason}{described.get(one.path, '')}") for one in error.problems]
    return []


def _described(of: Any) -> str:
    """What a field is, in words, for whoever does not read patterns."""
    info = msgspec.inspect.type_info(of)
    said = (info.extra_json_schema or {}).get("description") if isinstance(info, msgspec.inspect.Metadata) else None
    return f" ({said})" if said else ""


def _differing(good: city.City, before: Mapping[str, Mapping[str, Sequence[Any]]]) -> tuple[city.City, dict[str, Imported]]:
    """What is to be stored, and what that will do."""
    wanted: dict[str, list[Any]] = {}
    outcome = {}
    for name, kind in KINDS.items():
        rows, entries = before[name], getattr(good, name)
        new = [entry for entry in entries if entry.id not in rows]
        changed = [e for e in entries if e.id in rows and bulk.difference(kind, rows[e.id], kind.row(e))]
        wanted[name] = new + changed
        outcome[name] = Imported(len(new), len(changed), len(entries) - len(new) - len(changed))
    return city.City(**wanted), outcome
