"""`iotcore group …`: dynamic groups, and what is done with all their members at once."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from iotcore.app import common, coverage_history
from iotcore.clock import Clock
from iotcore.commands import office, who
from iotcore.commands.near import near
from iotcore.errors import ConfigError, Problem, Refused, StartError
from iotcore.registry import group_query, groups, vendors
from iotcore.registry.coverage import assess
from iotcore.registry.directory import Binding, Directory
from iotcore.registry.groups import Group, Groups, GroupStore
from iotcore.registry.records import NEXT_STATES, State
from iotcore.registry.store import Registry
from iotcore.registry.tokens import ENROLLABLE
from iotcore.settings import Settings
from iotcore.specs.load import Specs
from iotcore.telemetry import reported
from iotcore.telemetry.stores import TELEMETRY_DB

MAX_BYTES = 1_000_000  # of a group document
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """The registry and all that groups ask."""

    registry: Registry
    specs: Specs
    directory: Directory
    firmware: Mapping[str, str]
    groups: Mapping[str, Group]

    def bindings(self, group: str) -> list[Binding]:
        """The members of a group, by premises and name.

        Raises:
            StartError: there is no such group.
        """
        if group not in self.groups:
            raise StartError(f"There is no group {group}", near(group, self.groups))
        found = Groups()
        found.follow({group: self.groups[group]}, self.directory, self.firmware)
        return groups.ordered(self.directory.devices[name] for name in found.members(group))


@asynccontextmanager
async def known(settings: Settings) -> AsyncIterator[Known]:
    """Everything that groups are made of, read now."""
    specs = common.specs_of(settings)
    async with office.opened(settings) as registry:
        directory = await registry.directory(specs)
        firmware = await asyncio.to_thread(reported.firmware, settings.folder / TELEMETRY_DB)
        yield Known(registry, specs, directory, firmware, await GroupStore(registry.database).all())


def document_of(file: Path) -> Any:
    """The group document in a file.

    Raises:
        ConfigError: it cannot be read or is not JSON.
    """
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ConfigError([Problem(str(file), "", f"cannot be read: {error.strerror}")]) from error
    if len(text) > MAX_BYTES:
        raise ConfigError([Problem(str(file), "", f"has {len(text)} bytes; a group has at most {MAX_BYTES}")])
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError([Problem(str(file), "", f"is not JSON: {error}")]) from error


async def save(settings: Settings, name: str, document: Any, expected: int | None) -> str:
    """Check a group and keep it; what was done.

    Raises:
        ConfigError: with everything that is wrong with it.
        Refused: `conflict`, `too_many`.
    """
    async with known(settings) as here, who.opened(settings) as desk:
        checked = groups.check(name, document, here.directory, here.specs)
        kept = await GroupStore(here.registry.database).save(name, checked, desk.by, expected)
        found = Groups()
        found.follow({name: kept}, here.directory, here.firmware)
        before = here.groups.get(name)
        if before is not None and before.version == kept.version:
            said = f"is as it was, version {kept.version}"
        else:
            said = f"has version {kept.version}"
        return f"group {name} {said}; {len(found.members(name))} devices are in it"


async def remove(settings: Settings, name: str) -> None:
    """Forget a group.

    Raises:
        StartError: there is none of this name.
    """
    async with known(settings) as here, who.opened(settings) as desk:
        if not await GroupStore(here.registry.database).remove(name, desk.by):
            raise StartError(f"There is no group {name}", near(name, here.groups))


async def listed(settings: Settings) -> list[Row]:
    """A row for each group, with how many devices are in it."""
    async with known(settings) as here:
        found = Groups()
        found.follow(here.groups, here.directory, here.firmware)
        return [
            {"group": one.id, "title": one.document.title, "devices": len(found.members(one.id)), "version": one.version}
            for one in here.groups.values()
        ]


async def shown(settings: Settings, name: str) -> Row:
    """A group as it is kept, with what it names that is no longer there."""
    async with known(settings) as here:
        members = here.bindings(name)
        one = here.groups[name]
        gone = group_query.unknown(one.document.query, here.directory, here.specs, name)
        return {
            "group": name,
            **msgspec.to_builtins(one.document),
            "version": one.version,
            "by": one.by,
            "devices": len(members),
            "problems": [str(problem) for problem in gone],
        }


async def members(settings: Settings, name: str) -> list[Row]:
    """A row for each device of a group."""
    async with known(settings) as here:
        return [
            {
                "device": one.device,
                "title": one.title,
                "model": one.spec.model,
                "state": one.state,
                "premises": one.premises,
                "publisher": one.publisher,
                "firmware": here.firmware.get(one.device, ""),
            }
            for one in here.bindings(name)
        ]


async def names(settings: Settings, name: str) -> list[str]:
    """The devices of a group."""
    async with known(settings) as here:
        return [one.device for one in here.bindings(name)]


async def tokens(settings: Settings, name: str, ttl_s: float, alone: str = "") -> tuple[list[tuple[str, str]], list[str]]:
    """A token for each member that enrols itself, and the members that do not: behind a gateway, with a password, or put out.

    It takes two admins, as `move`: who holds the tokens can be every one of these devices.

    Raises:
        Refused: `second_person`, or another reason of the two-person rule.
    """
    async with known(settings) as here, who.opened(settings) as desk:
        own: list[str] = []
        others: list[str] = []
        for one in here.bindings(name):
            enrols = one.publisher == one.device and not vendors.is_vendor(one) and one.state in ENROLLABLE
            (own if enrols else others).append(one.device)
        if own:
            await desk.second_person("group.tokens", {"group": name, **_named(own)}, alone)
        return [(device, await here.registry.create_token(device, ttl_s, desk.by)) for device in own], others


@dataclass(frozen=True, slots=True)
class Plan:
    """What moving a whole group would do: who moves, who cannot, and which key sites would no longer be watched."""

    moves: tuple[str, ...]
    stays: tuple[str, ...]
    unwatched: tuple[str, ...]


async def plan(settings: Settings, clock: Clock, name: str, state: State) -> Plan:
    """What `move` would do now."""
    async with known(settings) as here:
        return await asyncio.to_thread(_plan, settings, clock, here, name, state)


async def move(settings: Settings, name: str, state: State, alone: str = "") -> tuple[list[str], list[str]]:
    """Move every member that can into a state, each with its own audit entry; who moved, and who could not and why.

    It takes two admins: the second one has said yes to the very devices that would move now. `alone`: why without.

    Raises:
        Refused: `second_person`, or another reason of the two-person rule.
    """
    done, failed = [], []
    async with known(settings) as here, who.opened(settings) as desk:
        moving = _movable(here.bindings(name), state)
        if moving:
            asked: dict[str, object] = {"group": name, "state": state, **_named([one.device for one in moving])}
            await desk.second_person("group.move", asked, alone)
        for one in moving:
            try:
                if await here.registry.set_state(one.device, state, desk.by):
                    done.append(one.device)
            except Refused as error:  # it was moved meanwhile
                failed.append(str(error))
    return done, failed


def _named(devices: Sequence[str]) -> dict[str, object]:
    """The very devices that a second person says yes to."""
    return {"count": len(devices), "devices_sha256": hashlib.sha256("\n".join(devices).encode()).hexdigest()}


def _movable(bindings: Iterable[Binding], state: State) -> list[Binding]:
    return [one for one in bindings if state in NEXT_STATES[one.state]]


def _plan(settings: Settings, clock: Clock, here: Known, name: str, state: State) -> Plan:
    bindings = here.bindings(name)
    moving = {one.device: one for one in _movable(bindings, state)}
    signs = coverage_history.signs_now(settings)
    devices = {**here.directory.devices, **{device: replace(one, state=state) for device, one in moving.items()}}
    now_ms = clock.wall_ms()
    before = assess(here.directory, signs, now_ms)
    after = assess(replace(here.directory, devices=devices), signs, now_ms)
    unwatched = [site for site, one in before.sites.items() if one.live and not after.sites[site].live]
    stays = [f"{one.device} ({one.state})" for one in bindings if one.device not in moving]
    return Plan(tuple(moving), tuple(stays), tuple(sorted(unwatched)))


def query_of(
    conditions: Mapping[str, list[str]], labels: Iterable[str], firmware: Mapping[str, str], *, key_site: bool | None
) -> Any:
    """The query of the conditions on a command line, all of which must hold.

    Raises:
        StartError: there is none.
    """
    parts: list[Row] = [{"kind": kind, "is": values} for kind, values in conditions.items() if values]
    for label in labels:
        name, sign, value = label.partition("=")
        parts.append({"kind": "label", "name": name, **({"is": [value]} if sign else {})})
    if asked := {name: value for name, value in firmware.items() if value}:
        exactly = {"is": [asked.pop("is")]} if "is" in asked else {}
        parts.append({"kind": "firmware", **exactly, **asked})
    if key_site is not None:
        parts.append({"kind": "key_site", "is": key_site})
    if not parts:
        raise StartError("A group needs a query", "Name a file with --query, or give conditions such as --class and --area.")
    return parts[0] if len(parts) == 1 else {"kind": "all", "of": parts}
