"""`iotcore import FILE`: a file judged whole, then stored in small transactions; what is refused can be kept apart and mended.

file ─► draft ─► judged ─┬─ wrong rows ─► said, nothing stored (or --skip-bad: into FILE.rejected.…, the good ones stored)
                         └─ well ─► chunks ─► registry
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from iotcore.app import common
from iotcore.clock import Clock
from iotcore.commands import office, who
from iotcore.commands.progress import Progress
from iotcore.commands.whole_file import written_whole
from iotcore.errors import ConfigError, Problem, StartError
from iotcore.registry import intake
from iotcore.registry.draft import Fault
from iotcore.registry.judging import Judged, judge
from iotcore.registry.kinds import KINDS
from iotcore.registry.records import Imported
from iotcore.registry.sheets import write
from iotcore.registry.sheets.read import read
from iotcore.settings import Settings

COMPARE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be imported, and how."""

    file: Path
    kind: str = ""
    dry_run: bool = False
    skip_bad: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What an import did, or would do."""

    wanted: Wanted
    kinds: dict[str, Imported]
    outcome: Imported
    faults: Sequence[Fault]
    refused: int  # rows
    told: Sequence[str]
    rejected: Path | None
    seconds: float
    longest_ms: float  # that others could not write

    def plain(self) -> dict[str, Any]:
        """For programs."""
        return {
            "file": str(self.wanted.file),
            "dry_run": self.wanted.dry_run,
            **_counts(self.outcome),
            "refused": self.refused,
            "kinds": {kind: _counts(one) for kind, one in self.kinds.items()},
            "faults": [fault._asdict() for fault in self.faults],
            "told": list(self.told),
            "rejected": str(self.rejected) if self.rejected else None,
            "seconds": round(self.seconds, 3),
            "longest_ms": round(self.longest_ms, 1),
        }

    def lines(self) -> list[str]:
        """For people."""
        lines = [str(fault) for fault in self.faults]
        lines += [f"look at {said}" for said in self.told]
        if self.rejected:
            lines.append(f"{self.refused} rows are in {self.rejected} with the reasons: mend and import it")
        elif self.refused:
            lines.append(f"{self.refused} rows are wrong; with --skip-bad the others would be stored")
        if len(self.kinds) > 1:
            lines += [f"{kind}: {_said(one)}" for kind, one in self.kinds.items()]
        told = "would be " if self.wanted.dry_run else ""
        lines.append(f"{told}{_said(self.outcome)}" + ("; nothing was stored" if self.wanted.dry_run else ""))
        return lines


def _counts(one: Imported) -> dict[str, int]:
    return {"added": one.added, "changed": one.changed, "same": one.same}


def _said(one: Imported) -> str:
    return f"{one.added} added, {one.changed} changed, {one.same} as they were"


async def run(settings: Settings, wanted: Wanted, clock: Clock, progress: Progress) -> Report:
    """Import a file; the same file again changes nothing.

    Raises:
        ConfigError: the file cannot be read, or rows are wrong and are not to be skipped: then nothing is stored.
        StoreError: the registry did not commit; says how much is stored.
    """
    begun_s = clock.monotonic_s()
    progress.phase("reading")
    draft = await asyncio.to_thread(read, wanted.file, wanted.kind)
    specs = common.specs_of(settings)
    async with who.opened(settings) as desk:
        by = desk.by
    async with office.opened(settings) as registry:
        progress.phase("checking", draft.count)
        async with registry.database.reading() as db:
            judged = await judge(db, draft, specs)
        _insist(wanted, judged)
        rejected = await asyncio.to_thread(_keep_rejected, wanted, judged) if judged.faults and not wanted.dry_run else None
        outcome, longest_s = _expected(judged), 0.0
        if not wanted.dry_run:
            progress.phase("storing")
            stored = await intake.run(registry.database, judged, specs, by, clock=clock, told=progress.told)
            done = stored.outcome
            outcome, longest_s = Imported(done.added, done.changed, outcome.same + done.same), stored.longest_s
    progress.end()
    refused = sum(len(rows) for rows in judged.refused.values())
    kinds = {kind: one for kind, one in judged.outcome.items() if draft.entries[kind] or draft.refused[kind]}
    seconds = clock.monotonic_s() - begun_s
    faults = [fault for fault in judged.faults if wanted.skip_bad or not fault.follows]
    return Report(wanted, kinds, outcome, faults, refused, draft.told, rejected, seconds, longest_s * 1000.0)


def _insist(wanted: Wanted, judged: Judged) -> None:
    """Stop at what is wrong, unless it can be left out or is only asked for."""
    whole = [fault for fault in judged.faults if fault.row not in judged.refused.get(fault.kind, {})]
    if whole or (judged.faults and not (wanted.dry_run or wanted.skip_bad)):
        roots = whole or [fault for fault in judged.faults if not fault.follows]
        raise ConfigError([Problem(str(wanted.file), "", str(fault)) for fault in roots])


def _expected(judged: Judged) -> Imported:
    parts = judged.outcome.values()
    return Imported(sum(one.added for one in parts), sum(one.changed for one in parts), sum(one.same for one in parts))


def rejected_path(file: Path) -> Path:
    """Where the refused rows of a file go: beside it."""
    return file.with_name(f"{file.stem}.rejected{file.suffix}")


def _keep_rejected(wanted: Wanted, judged: Judged) -> Path:
    """Write the refused rows; the same as are there already are well."""
    path = rejected_path(wanted.file)
    with tempfile.TemporaryFile() as made:
        write.rejected(made, wanted.file, wanted.kind, judged.refused, judged.faults)
        made.seek(0)
        if path.exists() and _same(made, path):
            return path
        made.seek(0)
        try:
            with written_whole(path) as file:
                shutil.copyfileobj(made, file)
        except StartError as error:
            raise StartError(f"{error.thing}; nothing was imported", error.remedy) from error
    return path


def _same(made: BinaryIO, path: Path) -> bool:
    with path.open("rb") as there:
        while True:
            one, other = made.read(COMPARE_BYTES), there.read(COMPARE_BYTES)
            if one != other or not one:
                return one == other


async def export(settings: Settings, path: Path, kinds: Sequence[str]) -> dict[str, int]:
    """Write the registry's entries of these kinds to a new file; how many of each.

    Raises:
        ConfigError: the file's name says no format.
        StartError: the file is there already, or cannot be written.
    """
    async with office.opened(settings) as registry:
        document = await registry.document(kinds or tuple(KINDS))
    await asyncio.to_thread(_write, path, document)
    return {kind: len(entries) for kind, entries in document.items()}


def _write(path: Path, document: write.Document) -> None:
    with written_whole(path) as file:
        write.export(file, path, document)
