"""What `iotcore area|premises|file` and the verbs of `iotcore device` do that know of places: details, notes, files, units."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from iotcore.app import common
from iotcore.clock import SystemClock
from iotcore.commands import office, who
from iotcore.commands.office import moment
from iotcore.commands.whole_file import written_whole
from iotcore.errors import ConfigError, Problem, StartError
from iotcore.provision.file_folder import FileFolder
from iotcore.registry import attachments, details, removal, retirement
from iotcore.registry.attachments import Attachment, Content, FileKind
from iotcore.registry.places import Known, Places, Replacement
from iotcore.registry.store import Registry
from iotcore.registry.subjects import Subject
from iotcore.registry.units import Another
from iotcore.settings import Settings


class Desk(NamedTuple):
    """The registry of an installation, and who is at its command line."""

    registry: Registry
    places: Places
    by: str


@asynccontextmanager
async def desk(settings: Settings) -> AsyncIterator[Desk]:
    """Open it, closed at the end; raises Refused(`bad_token`)."""
    async with office.opened(settings) as registry:
        yield Desk(registry, Places(registry.database), await who.by(settings, registry.database))


def folder(settings: Settings) -> FileFolder:
    """Where the content of files lies."""
    return FileFolder(settings.folder / "files")


async def add_area(settings: Settings, entry: Mapping[str, Any]) -> str:
    """Register an area, or change it; raises ConfigError."""
    async with desk(settings) as at:
        done = await at.registry.import_city({"areas": [dict(entry)]}, common.specs_of(settings), at.by)
    return "added" if done.added else "changed" if done.changed else "as it was"


async def change(settings: Settings, kind: details.Kind, id_: str, changes: Mapping[str, Any]) -> bool:
    """Change details of what is registered; False when they are so already. Raises Refused or ConfigError."""
    async with desk(settings) as at:
        return await at.places.change(kind, id_, changes, specs=common.specs_of(settings), by=at.by)


async def contact(settings: Settings, entry: Mapping[str, Any]) -> bool:
    """Add a contact of a building, or change one; whether it is new. Raises ConfigError."""
    async with desk(settings) as at:
        done = await at.registry.import_city({"contacts": [dict(entry)]}, common.specs_of(settings), at.by)
    return bool(done.added)


async def remove(settings: Settings, kind: removal.Removable, id_: str) -> None:
    """Remove what nothing refers to; raises Refused."""
    async with desk(settings) as at:
        await at.places.remove(kind, id_, at.by)


async def listed(settings: Settings, kind: details.Kind) -> list[dict[str, Any]]:
    """The entries of a kind, as the city document says them."""
    async with desk(settings) as at:
        return await at.places.entries(kind)


async def known(settings: Settings, subject: Subject) -> Known:
    """What is known of a building or device; raises Refused."""
    async with desk(settings) as at:
        return await at.places.known(subject)


async def note(settings: Settings, subject: Subject, text: str) -> None:
    """Write a note; raises Refused."""
    async with desk(settings) as at:
        await at.places.note(subject, text, at.by)


async def attach(settings: Settings, subject: Subject, kind: FileKind, path: Path, title: str) -> str:
    """Keep a file and say what it belongs to; its id.

    Raises:
        Refused: it is no such file, see `attachments.media_type`, or nobody knows what it belongs to.
        StartError: it cannot be read or kept.
    """
    content = await asyncio.to_thread(_start_of, path)
    media = attachments.media_type(content, kind)
    async with desk(settings) as at:
        await at.places.files(subject)
        name = await asyncio.to_thread(folder(settings).keep, content)
        return await at.places.attach(subject, Content(kind, title or path.stem, media, len(content), name), at.by)


def _start_of(path: Path) -> bytes:
    """A file, or of one that is too large enough to see that."""
    try:
        with path.open("rb") as file:
            return file.read(attachments.MAX_FILE_BYTES + 1)
    except OSError as error:
        raise StartError(f"{path} cannot be read: {error.strerror}", "Name a file that is there.") from error


async def files(settings: Settings, subject: Subject | None) -> list[Attachment]:
    """Files of a building or device, or all; raises Refused for an unknown one."""
    async with desk(settings) as at:
        return await at.places.files(subject)


async def save(settings: Settings, file: str, path: Path) -> Attachment:
    """Write the content of a file where somebody can look at it; raises Refused, StoreError or StartError."""
    async with desk(settings) as at:
        found = await at.places.file(file)
    content = await asyncio.to_thread(folder(settings).read, found.sha256)
    with written_whole(path) as out:
        out.write(content)
    return found


async def detach(settings: Settings, file: str) -> None:
    """Take a file away; raises Refused."""
    async with desk(settings) as at:
        await at.places.detach(file, at.by)


async def sweep(settings: Settings) -> tuple[list[str], list[str]]:
    """Delete contents that no file has any more; their names, and those of contents that are missing or damaged."""
    here, now_s = folder(settings), SystemClock().wall_ms() / 1000.0
    async with desk(settings) as at:
        swept = await asyncio.to_thread(here.sweep, await at.places.contents(), now_s)
        return swept, await asyncio.to_thread(here.damaged, await at.places.contents())


async def configure(settings: Settings, device: str, path: Path | None) -> Known:
    """Want the configuration in a JSON file of a device, if one is named; what is known then.

    Raises:
        ConfigError: the file cannot be read, or is no JSON.
        Refused: nobody knows the device, or it is no configuration.
    """
    async with desk(settings) as at:
        if path is not None:
            await at.places.desire(device, await asyncio.to_thread(_json, path), at.by)
        return await at.places.known(Subject("device", device))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError([Problem(str(path), "", f"cannot be read: {error.strerror}")]) from error
    except ValueError as error:
        raise ConfigError([Problem(str(path), "", f"is not JSON: {error}")]) from error


async def replace(settings: Settings, device: str, another: Another, ttl_s: float) -> Replacement:
    """Another unit stands where a device is; raises Refused or ConfigError."""
    async with desk(settings) as at:
        return await at.places.replace(device, another, common.specs_of(settings), at.by, token_s=ttl_s)


async def plan_retirement(settings: Settings, device: str) -> retirement.Plan:
    """What retiring a device would do; raises Refused."""
    async with desk(settings) as at:
        return await at.places.plan_retirement(device, common.specs_of(settings))


async def retire(settings: Settings, device: str, why: str, *, anyway: bool) -> retirement.Plan | None:
    """Take a device out of service for good; None when it is already. Raises Refused."""
    async with desk(settings) as at:
        return await at.places.retire(device, why, common.specs_of(settings), at.by, anyway=anyway)


def plan_lines(plan: retirement.Plan) -> list[str]:
    """What retiring does, in lines for a person."""
    if plan.state == "retired":
        return [f"{plan.device} is retired already"]
    told = [f"{plan.device} is {plan.state}; it stands at: {plan.stood}"]
    told += [f"refused: {', '.join(plan.children)} stand behind it; retire or move them first"] if plan.children else []
    told += [f"asks for --anyway: no working fire device would be left in {where}" for where in plan.unwatched]
    told += [f"certificates that end: {', '.join(plan.certificates)}"] if plan.certificates else []
    told += ["its password ends"] if plan.password else []
    told += [f"tokens that nobody has used end: {plan.tokens}"] if plan.tokens else []
    told.append("its place is free for another device; its history, notes and files stay, and where it stood becomes a note")
    if plan.serial:
        told.append(f"unit {plan.serial} may be registered elsewhere")
    return told


def known_lines(found: Known) -> list[str]:
    """What is known of a building or device besides its readings, in lines for a person. Times are UTC."""
    told = []
    for name, value in found.entry.items():
        if name == "labels":
            told += [f"{'label':14} {label} = {said}" for label, said in value.items()]
        elif value not in ("", None, False) and name not in {"id", "title", "model"}:
            told.append(f"{name:14} {value}")
    desired, reported = found.config.desired, found.config.reported
    if desired is not None:
        has = f", it reports version {reported.version} since {moment(reported.at_ms)}" if reported is not None else ""
        told.append(f"{'config':14} version {desired.version} wanted since {moment(desired.at_ms)}{has}: {found.config.standing}")
    told += [
        f"{'unit':14} {unit.serial or '?'} of {unit.model} since {moment(unit.from_ms)}"
        + (f", until {moment(unit.to_ms)}: {unit.why}" if unit.to_ms else "")
        for unit in found.units
    ]
    told += [f"{one.kind:14} {one.id}  {one.title} ({one.media_type}, {one.size} bytes)" for one in found.files]
    told += [f"{'note':14} {moment(note.at_ms)} {note.by}: {note.text}" for note in found.notes]
    return told
