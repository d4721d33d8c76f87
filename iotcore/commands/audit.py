"""`iotcore audit verify|show`: whether the audit is whole, and what stands in it."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

from iotcore.app import audit_heads
from iotcore.clock import Clock
from iotcore.commands.moments import local, utc
from iotcore.errors import StartError
from iotcore.provision import heads
from iotcore.registry import audit
from iotcore.registry.store import Registry, open_registry
from iotcore.registry.trail import Wanted
from iotcore.settings import Settings

COLUMNS = ("seq", "time", "by", "action", "subject", "detail")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs a cell that begins so; strangers choose their names


class Asked(NamedTuple):
    """The last so many (0: all) of the wanted entries, and how they are shown."""

    wanted: Wanted
    last: int
    form: Literal["table", "json", "csv"]


class Verdict(NamedTuple):
    """What a check found; `heads` is how many exported heads it was held against, `end` where the chain ends now."""

    breaks: list[audit.Break]
    problems: list[str]
    heads: int
    end: audit.Head

    @property
    def whole(self) -> bool:
        """Whether nobody has tampered with it: a gap that a restore has left, and that is signed, is none."""
        return not (self.problems or any(one.tampered for one in self.breaks))

    def plain(self) -> dict[str, Any]:
        """For programs."""
        return {
            "whole": self.whole,
            "entries": self.end.seq,
            "head": self.end.hash,
            "heads_checked": self.heads,
            "breaks": [{"entry": one.seq, "reason": one.reason, "detail": one.detail} for one in self.breaks],
            "problems": self.problems,
        }

    def lines(self) -> list[str]:
        """For people."""
        against = f" and holds {self.heads} exported heads" if self.heads else ""
        gaps = [one for one in self.breaks if not one.tampered]
        if self.whole:
            end = f"entry {self.end.seq}" if gaps else f"{self.end.seq} entries"
            said = [f"the audit is whole{' but for what a restore has lost' if gaps else ''}: {end}{against}"]
            said += [f"GAP  {one}" for one in gaps]
            return said if self.heads else [*said, "its tail is checked against the database's own head only: give --head FILE"]
        return [*(f"BAD  {one}" for one in self.breaks), *(f"BAD  {one}" for one in self.problems)]


async def verify(settings: Settings, clock: Clock, file: Path | None, key: Path | None) -> Verdict:
    """Walk the whole chain, against the exported heads in `file` when one is named.

    Raises:
        StartError: the file, the key or the registry cannot be read.
    """
    exported = heads.Exported([], [])
    if file is not None:
        exported = heads.read(file, heads.public_key(key or audit_heads.key_folder(settings) / heads.PUBLIC_FILE))
        if not exported.heads:
            exported.problems.append(f"{file}: holds no head that this key has signed")
    async with await _registry(settings, clock) as registry:
        breaks = await registry.verify_audit([one.head for one in exported.heads])
        if file is not None:
            breaks = [await _witnessed(one, registry, exported.heads) for one in breaks]
        return Verdict(breaks, exported.problems, len(exported.heads), await registry.audit_head())


async def _witnessed(found: audit.Break, registry: Registry, exported: list[heads.SignedHead]) -> audit.Break:
    """A gap that a restore has left, and says itself, must be signed as well: whoever writes the database can say anything."""
    if found.tampered:
        return found
    (entry,) = await registry.audit_entries(found.seq - 1, 1)
    if any(one.after is not None and one.head == (found.seq, entry.hash) for one in exported):
        return found
    return audit.Break(found.seq, "unsigned", "it says that a backup was restored, and no signed head says so")


async def show(settings: Settings, clock: Clock, asked: Asked, out: TextIO) -> None:
    """Write the entries that are asked for, oldest first, one after the other."""
    table = csv.writer(out, lineterminator="\n")
    form = asked.form
    if form == "csv":
        table.writerow((*COLUMNS, "hash"))
    async with await _registry(settings, clock) as registry:
        async for entry in registry.audit_trail(asked.wanted, asked.last):
            if form == "csv":
                table.writerow(_cells((*_values(entry, utc(entry.deed.at_ms)), entry.hash)))
            elif form == "json":
                out.write(json.dumps(_plain(entry), ensure_ascii=False) + "\n")
            else:
                out.write("  ".join(_visible(str(value)) for value in _values(entry, local(entry.deed.at_ms))) + "\n")


async def _registry(settings: Settings, clock: Clock) -> Registry:
    if not settings.registry.url and not (settings.folder / "registry.db").exists():
        raise StartError(f"There is no registry in {settings.folder} yet", "Name the right settings with --config.")
    return await open_registry(settings.registry_url, clock)


def _values(entry: audit.Entry, time: str) -> tuple[Any, ...]:
    deed = entry.deed
    return (deed.seq, time, deed.by, deed.action, deed.subject, deed.detail)


def _plain(entry: audit.Entry) -> dict[str, Any]:
    named = dict(zip(COLUMNS, _values(entry, utc(entry.deed.at_ms)), strict=True))
    with contextlib.suppress(ValueError):  # somebody has edited it: shown as it stands
        named["detail"] = json.loads(entry.deed.detail)
    return {**named, "hash": entry.hash}


def _cells(values: Iterable[Any]) -> list[Any]:
    return [f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value for value in values]


def _visible(text: str) -> str:
    """What a terminal would obey is written out."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
