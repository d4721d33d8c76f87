"""`iotcore commissioning …`: the checklist of a device, its test mode, its signed record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers.modbus import roster
from iotcore.app import common
from iotcore.clock import SystemClock
from iotcore.commands import commissioning_check, office, who
from iotcore.commands.modbus_asking import How
from iotcore.commands.whole_file import written_whole
from iotcore.errors import StartError
from iotcore.provision.file_folder import FileFolder
from iotcore.registry.city import FIRE_CLASSES
from iotcore.registry.commissioning import MINUTE_MS, Commissioning
from iotcore.registry.directory import Binding, Directory
from iotcore.registry.store import Registry
from iotcore.settings import Settings
from iotcore.web import checklist
from iotcore.web.checklist import Budget, Known, Step
from iotcore.web.view import StoredView
from iotcore.web.words import Words, load

MARKS = {"done": "ok     ", "waiting": "waiting", "failed": "FAILED "}


@dataclass(frozen=True, slots=True)
class _Opened:
    """A registry with one device of it."""

    registry: Registry
    made: Commissioning
    directory: Directory
    binding: Binding


@asynccontextmanager
async def _opened(settings: Settings, device: str) -> AsyncIterator[_Opened]:
    async with office.opened(settings) as registry:
        directory = await registry.directory(common.specs_of(settings))
        binding = directory.devices.get(device)
        if binding is None:
            raise StartError(f"{device} is not registered", "`iotcore devices` lists all that are.")
        yield _Opened(registry, Commissioning(registry.database), directory, binding)


async def status(settings: Settings, device: str) -> dict[str, Any]:
    """Every step of the checklist, the test mode, who signed.

    Raises:
        StartError: the device is not registered.
    """
    async with _opened(settings, device) as here:
        said = roster.verdict(here.directory, device, settings.modbus_interval_s or None)
        known = Known(
            certificates=await here.registry.certificates(here.binding.publisher),
            last_test=(await here.made.last_tests(device)).get(device),
            in_test=await here.made.test_mode(device),
            entries=await here.made.entries(device),
            budget=None if said is None else Budget(*said),
            since_ms=await here.made.unit_since(device),
        )
        with closing(StoredView(settings.folder, lambda: here.directory, settings.journal_place)) as view:
            shown = view.device(device)
    assert shown is not None, "the directory has it"
    words, signed = load("en"), known.newest("sign")
    return {
        "device": device,
        "title": here.binding.title,
        "steps": [_plain(step, words) for step in checklist.steps(shown, known, SystemClock().wall_ms())],
        "in_test_until_ms": known.in_test.until_ms if known.in_test else None,
        "unmarked": [one["incident"] for one in checklist.unmarked(shown, known)],
        "signed_by": signed.body["name"] if signed else None,
        "signed_ms": signed.received_ms if signed else None,
        "record": signed.file if signed else None,
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The same for a person. Times are UTC."""
    told = [f"{found['device']}  {found['title']}"]
    told += [f"{MARKS[step['condition']]} {step['text']}{_said(step)}" for step in found["steps"]]
    if found["in_test_until_ms"] is not None:
        told.append(f"in test mode until {office.moment(found['in_test_until_ms'])}")
    told += [f"DISPATCHED AS REAL, it was not marked as a test: incident {incident}" for incident in found["unmarked"]]
    if found["signed_by"] is not None:
        told.append(f"signed by {found['signed_by']} at {office.moment(found['signed_ms'])}")
    return told


async def record(settings: Settings, device: str, file: Path) -> str:
    """Write the newest signed record to a file; what it is.

    Raises:
        StartError: nobody has signed yet, or the file cannot be written.
        StoreError: the record is not there any more, or is not what it was.
    """
    async with _opened(settings, device) as here:
        signed = next((one for one in reversed(await here.made.entries(device)) if one.kind == "sign"), None)
    if signed is None:
        raise StartError(f"Nobody has signed for {device} yet", f"Sign on its page, /commissioning/{device}.")
    content = FileFolder(settings.folder / "files").read(signed.file)
    with written_whole(file) as out:
        out.write(content)
    return f"{file}: signed by {signed.body['name']} at {office.moment(signed.received_ms)}, SHA-256 {signed.file}"


async def test_mode(settings: Settings, device: str, minutes: float, by: str) -> str:
    """Put a fire device into test mode for so many minutes; 0 ends it.

    Raises:
        StartError: it is not registered, or no fire device.
        Refused: too long, or it is suspended or retired.
    """
    async with _opened(settings, device) as here:
        by = await who.named(settings, here.registry.database, by)
        if not minutes:
            ended = await here.made.end_test(device, by)
            return f"{device} is {'no longer' if ended else 'not'} in test mode"
        if here.binding.spec.device_class not in FIRE_CLASSES:
            raise StartError(f"{device} is no fire device", "Only a fire device has a test alarm.")
        mode = await here.made.start_test(device, int(minutes * MINUTE_MS), by)
    return f"{device} is in test mode until {office.moment(mode.until_ms)}"


async def check(settings: Settings, device: str, how: How, by: str, *, nameplate_seen: bool) -> list[dict[str, Any]]:
    """Read the Modbus unit and keep what was found; errors as `commissioning_check.check`."""
    async with _opened(settings, device) as here:
        by = await who.named(settings, here.registry.database, by)
        steps: Sequence[Step] = await commissioning_check.check(here.made, here.binding, how, by, nameplate_seen=nameplate_seen)
    return [_plain(step, load("en")) for step in steps]


def step_lines(steps: Sequence[dict[str, Any]]) -> list[str]:
    """Steps for a person."""
    return [f"{MARKS[step['condition']]} {step['text']}{_said(step)}" for step in steps]


def _plain(step: Step, words: Words) -> dict[str, Any]:
    return {
        "name": step.name,
        "condition": step.condition,
        "reason": step.reason,
        "text": words(f"check.{step.name}"),
        "said": words.step(step),
        "latency_ms": step.latency_ms,
    }


def _said(step: dict[str, Any]) -> str:
    parts = [f"{step['latency_ms']:.1f} ms from the detector until durable"] if step["latency_ms"] is not None else []
    parts += [step["said"]] if step["said"] else []
    return f": {'; '.join(parts)}" if parts else ""
