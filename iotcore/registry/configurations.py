"""What a device is wanted to be set to, and what it says that it is set to: versions of both, as JSON objects.

A desired version is added and never changed; its number grows by one. A device reports by the number of the desired version
that it took, so the two are compared by number and by content.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tortoise.backends.base.client import BaseDBAsyncClient

from iotcore.errors import Refused
from iotcore.registry.audit import canonical
from iotcore.registry.database import Writing
from iotcore.registry.subjects import Subject, exists
from iotcore.registry.tables_places import ConfigRow

MAX_CONFIG_BYTES = 60_000  # of its JSON: it has to travel in one message of 64 KiB

Side = Literal["desired", "reported"]


@dataclass(frozen=True, slots=True)
class Configuration:
    """One version; `at_ms` UTC when it was set or last reported."""

    version: int
    body: Any
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Report:
    """What `by`, a device or the gateway before it, says that `device` is set to since it took `version`."""

    device: str
    version: int
    body: Any
    by: str


@dataclass(frozen=True, slots=True)
class Pair:
    """What is wanted and what is reported; None where there is nothing yet."""

    desired: Configuration | None
    reported: Configuration | None

    @property
    def standing(self) -> Literal["none", "unreported", "behind", "differs", "applied"]:
        """How the device stands to what is wanted: `differs` says that it took the version and has something else."""
        if self.desired is None:
            return "none"
        if self.reported is None:
            return "unreported"
        if self.reported.version < self.desired.version:
            return "behind"
        return "applied" if self.reported.body == self.desired.body else "differs"


async def desire(work: Writing, device: str, body: Any, by: str) -> int:
    """Want a configuration of a device; its version. The one that is wanted already keeps its number.

    Raises:
        Refused: `unknown_device`, `no_object`, or `too_large`.
    """
    text = await _checked(work, device, body)
    newest = await _newest(work.db, device, "desired")
    if newest is not None and newest.body == text:
        return int(newest.version)
    version = newest.version + 1 if newest is not None else 1
    await ConfigRow.create(
        using_db=work.db, device_id=device, side="desired", version=version, body=text, by=by, at_ms=work.now_ms
    )
    work.note(by, "config.desire", device, version=version, body=text)
    work.changed("config", device)
    return int(version)


async def report(work: Writing, device: str, version: int, body: Any, by: str) -> bool:
    """A device says what it is set to since it took desired version `version`; False when it said the same before.

    Raises:
        Refused: `unknown_device`, `no_object`, `too_large`, or `unknown_version` for one that nobody wanted.
    """
    text = await _checked(work, device, body)
    if not await ConfigRow.filter(device_id=device, side="desired", version=version).using_db(work.db).exists():
        raise Refused("unknown_version", f"version {version} was never wanted of {device!r}")
    last = await _newest(work.db, device, "reported")
    if last is not None and (last.version, last.body) == (version, text):
        return False
    row = await ConfigRow.get_or_none(device_id=device, side="reported", version=version, using_db=work.db)
    at_ms = work.now_ms if last is None else max(work.now_ms, last.at_ms + 1)  # it comes after what was said before
    said: dict[str, Any] = {"body": text, "by": by, "at_ms": at_ms}
    if row is None:
        await ConfigRow.create(using_db=work.db, device_id=device, side="reported", version=version, **said)
    else:
        await ConfigRow.filter(id=row.id).using_db(work.db).update(**said)
    work.note(by, "config.report", device, version=version, body=text)
    work.changed("config", device)
    return True


async def report_all(work: Writing, said: Sequence[Report]) -> dict[str, Refused]:
    """The same of many devices; those that are refused, by device."""
    refused = {}
    for one in said:
        try:
            await report(work, one.device, one.version, one.body, one.by)
        except Refused as why:
            refused[one.device] = why
    return refused


async def unheard(db: BaseDBAsyncClient, said: Sequence[Report]) -> list[Report]:
    """Of these, what differs from what the registry has of its device: most devices say the same at each start."""
    rows = await ConfigRow.filter(side="reported", device_id__in=[one.device for one in said]).using_db(db).order_by("at_ms")
    last = {row.device_id: (row.version, json.loads(row.body)) for row in rows}
    return [one for one in said if last.get(one.device) != (one.version, one.body)]


async def pair(db: BaseDBAsyncClient, device: str) -> Pair:
    """The newest of both sides."""
    return Pair(_plain(await _newest(db, device, "desired")), _plain(await _newest(db, device, "reported")))


async def history(db: BaseDBAsyncClient, device: str, side: Side, last: int = 50) -> list[Configuration]:
    """The newest of one side, the newest first: by version what is wanted, by time what was reported."""
    rows = await ConfigRow.filter(device_id=device, side=side).using_db(db).order_by(*_order(side)).limit(last)
    return [found for row in rows if (found := _plain(row)) is not None]


async def _checked(work: Writing, device: str, body: Any) -> str:
    await exists(work.db, Subject("device", device))
    if not isinstance(body, dict):
        raise Refused("no_object", 'a configuration is a JSON object: {"name": value}')
    try:
        text = canonical(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused("no_object", f"a configuration is plain JSON: {error}") from error
    if len(text.encode()) > MAX_CONFIG_BYTES:
        raise Refused("too_large", f"{len(text.encode())} bytes of at most {MAX_CONFIG_BYTES}")
    return text


async def _newest(db: BaseDBAsyncClient, device: str, side: Side) -> ConfigRow | None:
    return await ConfigRow.filter(device_id=device, side=side).using_db(db).order_by(*_order(side)).first()


def _order(side: Side) -> tuple[str, ...]:
    """Newest first. A device that was set back reports an older version later: what it said last is true."""
    return ("-version",) if side == "desired" else ("-at_ms", "-version")


def _plain(row: ConfigRow | None) -> Configuration | None:
    return None if row is None else Configuration(row.version, json.loads(row.body), row.by, row.at_ms)
