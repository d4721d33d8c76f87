"""A platform's folder as its processes leave it (authority, registry, journal, heads of the audit), and backups of it."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from iotcore.app import audit_heads
from iotcore.backup import keys
from iotcore.backup.manifest import Manifest
from iotcore.clock import ManualClock
from iotcore.commands import audit, backup, restore
from iotcore.journal.journal import Journal
from iotcore.journal.records import Batch
from iotcore.process import home
from iotcore.provision.ca import Authority
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import Settings, load
from tests.support.fire import notice, raise_, reading
from tests.support.registered import SPECS, city

T = TypeVar("T")
CHANNELS = ("arc", "cad")
DC09_KEY = "0123456789ABCDEF"


@dataclass(slots=True)
class Kept:
    """One platform's folder and the key of its backups."""

    root: Path
    clock: ManualClock
    url: str = ""  # of a registry on PostgreSQL
    more: dict[str, Any] = field(default_factory=dict)
    recipient: str = ""

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def config(self) -> Path:
        return self.root / "iotcore.toml"

    @property
    def identity(self) -> Path:
        return self.root / "key"

    @property
    def settings(self) -> Settings:
        return load(self.config, {})

    def begin(self) -> None:
        """Write the settings; make the authority, a city, a signed head."""
        lines = [f"data = {json.dumps(str(self.data))}", *(f"{key} = {json.dumps(value)}" for key, value in self.more.items())]
        lines += [f"[registry]\nurl = {json.dumps(self.url)}"] if self.url else []
        lines += [f'[[receivers]]\nkind = "sia_dc09"\nname = "arc"\nhost = "127.0.0.1"\nport = 9\nkey = "{DC09_KEY}"']
        self.config.write_text("\n".join([*lines, ""]), encoding="utf-8")
        home.prepare(self.settings, self.clock)
        self.recipient = keys.make_pair(self.identity)
        self.ask(lambda registry: registry.import_city(city(), SPECS, "tester"))
        self.export_head()

    def ask(self, what: Callable[[Registry], Awaitable[T]], url: str = "") -> T:
        """Do something to the registry."""

        async def done() -> T:
            async with await open_registry(url or self.settings.registry_url, self.clock) as registry:
                return await what(registry)

        return asyncio.run(done())

    def export_head(self) -> None:
        """As the keeper does each hour."""

        async def exported() -> None:
            async with await open_registry(self.settings.registry_url, self.clock) as registry:
                await audit_heads.export(self.settings, registry, self.clock)

        asyncio.run(exported())

    def authority(self, folder: Path | None = None) -> Authority:
        return home.authority(msgspec.structs.replace(self.settings, data=str(folder or self.data)), self.clock)

    def burn(self, seq: int, premises: str = "p1", folder: Path | None = None) -> str:
        """A fire in the journal: an open incident, its notices in the outbox, nothing delivered."""
        with closing(Journal((folder or self.data) / "journal.db", self.clock, CHANNELS)) as journal:
            device = f"d-{premises}"
            raised = raise_(seq, of=notice(device, premises))
            (name,) = journal.commit(Batch(readings=(reading(device, seq, smoke=0.4),), raises=(raised,))).opened
        return name

    def make(self, name: str = "b.age", **more: Any) -> Path:
        """A backup."""
        target = self.root / name
        options = {"telemetry": False, "staging": None, **more}
        backup.make(self.settings, self.config, target, backup.Key(self.recipient), self.clock, **options)
        return target

    def verify(self, file: Path) -> Manifest:
        return backup.verify(file, self.opener)

    @property
    def opener(self) -> backup.Opener:
        return backup.Opener(self.identity)

    def restore(self, file: Path, to: Path, **more: Any) -> restore.Report:
        return restore.restore(restore.Asked(file, to, self.opener, **more), self.clock)

    def audit(self, folder: Path, head: Path | None = None, url: str = "") -> audit.Verdict:
        """What a check of the audit in `folder` says."""
        changed: dict[str, Any] = {"data": str(folder)}
        if url:
            changed["registry"] = msgspec.structs.replace(self.settings.registry, url=url)
        settings = msgspec.structs.replace(self.settings, **changed)
        return asyncio.run(audit.verify(settings, self.clock, head, None))


def rows(file: Path, query: str, *values: Any) -> list[Any]:
    """What a SQLite file holds."""
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(query, values).fetchall()


def state_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = [Path(here, name) for here, _, names in os.walk(folder) for name in names]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
