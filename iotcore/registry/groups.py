"""Dynamic groups: kept in the registry with versions, their members found in memory.

GroupStore   the documents: `save`, `remove`, `all`; every version stands whole in the audit
Groups       who is in which group now: `follow` a directory and reported firmware, then `members` and `of`

What concerns many devices at once (rules, commands, firmware) asks Groups.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from iotcore.errors import ConfigError, Problem, Refused
from iotcore.registry import audit, group_query
from iotcore.registry.database import Database, Writing, whole
from iotcore.registry.directory import Binding, Directory
from iotcore.registry.group_query import GroupDocument, Subject
from iotcore.registry.tables_coverage import GroupRow
from iotcore.specs.model import DeviceSpec

GROUP_ID = re.compile(r"[a-z][a-z0-9-]{0,39}")
MAX_GROUPS = 1_000


@dataclass(frozen=True, slots=True)
class Group:
    """A group as it is kept."""

    id: str
    document: GroupDocument
    version: int
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Moved:
    """Who came into a group and who left it."""

    joined: frozenset[str]
    left: frozenset[str]


def check(name: str, document: Any, directory: Directory, specs: Mapping[str, DeviceSpec]) -> GroupDocument:
    """A group before it is saved.

    Raises:
        ConfigError: with everything that is wrong: its name, its shape, and what it names that is not there.
    """
    problems = (
        [] if GROUP_ID.fullmatch(name) else [Problem(name, "id", "must be a to z, 0 to 9 and -, at most 40, a letter first")]
    )
    try:
        found = group_query.read(document, name)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    problems += group_query.unknown(found.query, directory, specs, name)
    if problems:
        raise ConfigError(problems)
    return found


class GroupStore:
    """The registry's groups. All methods raise StoreError when the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def save(self, name: str, document: GroupDocument, by: str, expected: int | None = None) -> Group:
        """Keep a checked group; the same again is no new version.

        Raises:
            Refused: `conflict` when its version is not `expected` (0: there is none yet), `too_many` groups.
        """
        async with self._database.writing() as work:
            return await _save(work, name, document, by, expected)

    @whole
    async def remove(self, name: str, by: str) -> bool:
        """Forget a group; False when there is none. Its versions stay in the audit."""
        async with self._database.writing() as work:
            if not await GroupRow.filter(id=name).using_db(work.db).delete():
                return False
            work.note(by, "group.remove", name)
            work.changed("group", name)
            return True

    async def all(self) -> dict[str, Group]:
        """Every group by its id, in order."""
        async with self._database.reading() as db:
            return {row.id: _group(row) for row in await GroupRow.all().using_db(db).order_by("id")}


async def _save(work: Writing, name: str, document: GroupDocument, by: str, expected: int | None) -> Group:
    row = await GroupRow.get_or_none(id=name, using_db=work.db)
    version = row.version if row is not None else 0
    if expected is not None and expected != version:
        raise Refused("conflict", f"group {name!r} has version {version}, not {expected}: look at it again")
    query = msgspec.to_builtins(document.query)
    text = audit.canonical(query)
    if row is not None and (row.title, row.query) == (document.title, text):
        return _group(row)
    if row is None and await GroupRow.all().using_db(work.db).count() >= MAX_GROUPS:
        raise Refused("too_many", f"there are {MAX_GROUPS} groups already; remove one")
    values = {"title": document.title, "query": text, "version": version + 1, "by": by, "at_ms": work.now_ms}
    if row is None:
        await GroupRow.create(using_db=work.db, id=name, **values)
    else:
        await GroupRow.filter(id=name).using_db(work.db).update(**values)
    work.note(by, "group.save", name, title=document.title, query=query, version=version + 1)
    work.changed("group", name)
    return Group(name, document, version + 1, by, work.now_ms)


def _group(row: GroupRow) -> Group:
    document = GroupDocument(row.title, msgspec.json.decode(row.query, type=group_query.Query))
    return Group(row.id, document, row.version, row.by, row.at_ms)


class Groups:
    """Who is in which group, as of the last `follow`."""

    def __init__(self) -> None:
        self._groups: Mapping[str, Group] = {}
        self._directory = Directory()
        self._firmware: Mapping[str, str] = {}
        self._members: dict[str, set[str]] = {}
        self._of: dict[str, frozenset[str]] = {}

    def members(self, group: str) -> frozenset[str]:
        """The devices of a group.

        Raises:
            Refused: `unknown_group`.
        """
        found = self._members.get(group)
        if found is None:
            raise Refused("unknown_group", f"there is no group {group!r}; there are: {', '.join(self._members) or 'none'}")
        return frozenset(found)

    def of(self, device: str) -> frozenset[str]:
        """The groups that a device is in."""
        return self._of.get(device, frozenset())

    def follow(self, groups: Mapping[str, Group], directory: Directory, firmware: Mapping[str, str]) -> dict[str, Moved]:
        """Go on to these; only what differs from the last call is asked anew. Returns the groups whose members changed.

        `firmware` is what each device last reported.
        """
        devices = self._changed_devices(directory, firmware)
        again = {
            name
            for name, group in groups.items()
            if name not in self._members or directory.areas is not self._directory.areas or group != self._groups.get(name)
        }
        gone = {name: frozenset(members) for name, members in self._members.items() if name not in groups}
        self._groups, self._directory, self._firmware = groups, directory, firmware
        moved = {name: Moved(frozenset(), members) for name, members in gone.items() if members}
        for name in gone:
            del self._members[name]
        for name, group in groups.items():
            asked = directory.devices.keys() | self._members.get(name, set()) if name in again else devices
            if found := self._ask(name, group, asked):
                moved[name] = found
        self._tell(moved)
        return moved

    def _changed_devices(self, directory: Directory, firmware: Mapping[str, str]) -> set[str]:
        """The devices whose own row, premises or firmware is another than at the last call."""
        before = self._directory
        found = {name for name, _ in firmware.items() ^ self._firmware.items()}
        if directory.devices is not before.devices:
            found |= _other(before.devices, directory.devices)
        if directory.premises is not before.premises:
            places = _other(before.premises, directory.premises)
            found |= {name for name, binding in directory.devices.items() if binding.premises in places}
        return found

    def _ask(self, name: str, group: Group, devices: Collection[str]) -> Moved | None:
        members = self._members.setdefault(name, set())
        if not devices:
            return None
        test = group_query.compiled(group.document.query, self._directory)
        fits = {device for device in devices if (one := self._subject(device)) is not None and test(one)}
        joined, left = frozenset(fits - members), frozenset((members & set(devices)) - fits)
        members -= left
        members |= joined
        return Moved(joined, left) if joined or left else None

    def _subject(self, device: str) -> Subject | None:
        binding = self._directory.devices.get(device)
        if binding is None:
            return None
        return Subject(binding, self._directory.premises.get(binding.premises), self._firmware.get(device, ""))

    def _tell(self, moved: Mapping[str, Moved]) -> None:
        """Keep `of` as the groups are; equal sets of groups are one object."""
        shared: dict[frozenset[str], frozenset[str]] = {}
        for name, change in moved.items():
            for device in change.joined:
                now = self.of(device) | {name}
                self._of[device] = shared.setdefault(now, now)
            for device in change.left:
                now = self.of(device) - {name}
                self._of[device] = shared.setdefault(now, now)
                if not now:
                    del self._of[device]


def _other(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """The names whose entries are not the same objects: the directory keeps those that did not change."""
    found = {name for name, entry in after.items() if before.get(name) is not entry}
    return found | (before.keys() - after.keys())


def ordered(bindings: Iterable[Binding]) -> list[Binding]:
    """Devices as people look for them: by their premises, then by name."""
    return sorted(bindings, key=lambda binding: (binding.premises, binding.device))
