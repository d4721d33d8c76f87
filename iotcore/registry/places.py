"""Places: what is known of buildings and devices besides what the lanes need. Its own class over the registry's database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from iotcore.errors import Refused
from iotcore.registry import attachments, configurations, details, notes, removal, retirement, tokens, units
from iotcore.registry.attachments import Attachment, Content
from iotcore.registry.database import Database, whole
from iotcore.registry.notes import Note
from iotcore.registry.subjects import Subject, exists
from iotcore.registry.units import Another, Replaced, Unit
from iotcore.specs.model import DeviceSpec

Specs = Mapping[str, DeviceSpec]
NOTHING = configurations.Pair(None, None)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a building or device: its entry of the city document, what was written and filed, and its units."""

    entry: Mapping[str, Any]
    notes: tuple[Note, ...]
    files: tuple[Attachment, ...]
    units: tuple[Unit, ...] = ()
    config: configurations.Pair = NOTHING


class Replacement(NamedTuple):
    """A replaced unit, and the token with which the new one enrols; "" for one that needs none."""

    done: Replaced
    token: str


class Places:
    """Over an open registry: `Places(registry.database)`. All methods raise StoreError when the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def note(self, subject: Subject, text: str, by: str) -> int:
        """Write a note about a building or device; its number. Raises Refused."""
        async with self._database.writing() as work:
            return await notes.add(work, subject, text, by)

    @whole
    async def attach(self, subject: Subject, file: Content, by: str) -> str:
        """Say that a file, whose content is kept already, belongs to a building or device; its id. Raises Refused."""
        async with self._database.writing() as work:
            return await attachments.add(work, subject, file, by)

    @whole
    async def detach(self, file: str, by: str) -> None:
        """Take a file away; its content goes with the next sweep. Raises Refused."""
        async with self._database.writing() as work:
            await attachments.remove(work, file, by)

    async def file(self, file: str) -> Attachment:
        """One file; raises Refused `unknown_file`."""
        async with self._database.reading() as db:
            return await attachments.get(db, file)

    async def files(self, subject: Subject | None = None) -> list[Attachment]:
        """Files of a building or device, or all, newest first; raises Refused for an unknown one."""
        async with self._database.reading() as db:
            if subject is not None:
                await exists(db, subject)
            return await attachments.listed(db, subject)

    async def contents(self) -> set[str]:
        """The SHA-256 of every content that some file has."""
        async with self._database.reading() as db:
            return await attachments.contents(db)

    async def entries(self, kind: details.Kind) -> list[dict[str, Any]]:
        """Everything of a kind, as the city document says it, by id."""
        async with self._database.reading() as db:
            return await details.entries(db, kind)

    @whole
    async def change(self, kind: details.Kind, id_: str, changes: Mapping[str, Any], *, specs: Specs, by: str) -> bool:
        """Change details of an area, building, contact or device; False when they are so. Raises Refused or ConfigError."""
        async with self._database.writing() as work:
            return await details.change(work, kind, id_, changes, specs=specs, by=by)

    @whole
    async def remove(self, kind: removal.Removable, id_: str, by: str) -> None:
        """Remove an area, a building, a zone or a contact to which nothing refers any more. Raises Refused."""
        async with self._database.writing() as work:
            await removal.remove(work, kind, id_, by)

    @whole
    async def desire(self, device: str, body: Any, by: str) -> int:
        """Want a configuration of a device; its version. Raises Refused."""
        async with self._database.writing() as work:
            return await configurations.desire(work, device, body, by)

    @whole
    async def report(self, device: str, version: int, body: Any, by: str) -> bool:
        """A device says what it is set to since desired version `version`; False when nothing is new. Raises Refused."""
        async with self._database.writing() as work:
            return await configurations.report(work, device, version, body, by)

    @whole
    async def report_all(self, said: Sequence[configurations.Report]) -> dict[str, Refused]:
        """The same of many devices at once, each at most once; those that are refused, by device."""
        async with self._database.reading() as db:
            news = await configurations.unheard(db, said)
        if not news:
            return {}
        async with self._database.writing() as work:
            return await configurations.report_all(work, news)

    async def configured(self, device: str, side: configurations.Side, last: int = 50) -> list[configurations.Configuration]:
        """Versions of one side, the newest first; raises Refused `unknown_device`."""
        async with self._database.reading() as db:
            await exists(db, Subject("device", device))
            return await configurations.history(db, device, side, last)

    @whole
    async def replace(self, device: str, another: Another, specs: Specs, by: str, *, token_s: float) -> Replacement:
        """Another unit stands where a device is, and gets a token good for `token_s` seconds.

        Raises Refused or ConfigError, see `units.replace`.
        """
        async with self._database.writing() as work:
            done = await units.replace(work, device, another, specs, by)
            token = await tokens.create(work, device, token_s, by) if done.enrols else ""
            return Replacement(done, token)

    async def plan_retirement(self, device: str, specs: Specs) -> retirement.Plan:
        """What retiring a device would do. Raises Refused."""
        async with self._database.reading() as db:
            return await retirement.plan(db, device, self._database.now_ms(), specs)

    @whole
    async def retire(self, device: str, why: str, specs: Specs, by: str, *, anyway: bool = False) -> retirement.Plan | None:
        """Take a device out of service for good; None when it is already. Raises Refused, see `retirement.retire`."""
        async with self._database.writing() as work:
            return await retirement.retire(work, device, why, specs, by, anyway=anyway)

    async def known(self, subject: Subject) -> Known:
        """What is known of a building or device. Raises Refused."""
        async with self._database.reading() as db:
            device = subject.kind == "device"
            return Known(
                await details.entry(db, "devices" if device else "premises", subject.id),
                tuple(await notes.listed(db, subject)),
                tuple(await attachments.listed(db, subject)),
                tuple(await units.listed(db, subject.id)) if device else (),
                await configurations.pair(db, subject.id) if device else NOTHING,
            )
