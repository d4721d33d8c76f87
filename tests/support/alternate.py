"""The alternate path on a table: the lane with its journal and rules, the real listener, and certificates of every kind."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, Literal

from drivers.https_alarm import HttpsAlarm, Place
from drivers.mqtt.canonical import decode
from iotcore.alarms import rules
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.clock import ManualClock, SystemClock
from iotcore.errors import StoreError
from iotcore.journal.journal import Journal
from iotcore.provision import alternate
from iotcore.provision.alternate import Given
from iotcore.provision.ca import Anchor, Authority, IssuedCertificate
from iotcore.provision.services import ensure_service
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival, Endpoint
from iotcore.wire.messages import ReadingMessage, encode
from tests.integration.test_fire_lane import directory
from tests.support.listed import ListBroker
from tests.support.pki import PASSPHRASE, authority, device_files, trust_file

RULES = rules.load(rules.default_path())
NAMES = ("localhost", "127.0.0.1")
LONG_AGO_MS = 200 * 86_400_000.0  # a device's certificate is good for 90 days


class Table:
    """`registry_says` are the serials that the registry calls revoked; None: it does not answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = SystemClock()
        self.authority = authority(folder, self.clock)
        self.given = Given(folder / "https")
        alternate.refresh(self.authority, self.given)
        self.trusted = trust_file(self.authority, folder)
        self.registry_says: set[str] | None = set()
        self.opened: list[str] = []
        self.broker = ListBroker()
        self.boot = secrets.token_hex(4)
        self.directory = directory()
        self.restart()

    def restart(self) -> None:
        """A new process opens the same journal."""
        self.journal = Journal(self.folder / "journal.db", self.clock, ["arc"])
        self.lane = FireLane(
            broker=self.broker,
            decode=decode,
            directory=lambda: self.directory,
            engine=Engine(RULES),
            journal=self.journal,
            clock=self.clock,
            opened=lambda committed: self.opened.extend(committed.opened),
            first_seen=lambda _: asyncio.sleep(0),
        )
        self.lane.warm()

    @asynccontextmanager
    async def listening(
        self, *, expired: Literal["alarms", "refuse"] = "alarms", port: int = 0, **limits: Any
    ) -> AsyncIterator[HttpsAlarm]:
        """The listener runs."""
        cert_file, key_file = ensure_service(self.authority, self.folder / "certs", "svc.fire.1.https", NAMES, self.clock)
        place = Place("127.0.0.1", port, cert_file, key_file, self.given)
        listener = HttpsAlarm(place, self.lane.deliver, self._refuses, self.clock, expired=expired, **limits)
        running = asyncio.create_task(listener.run())
        try:
            await asyncio.wait_for(listener.listening.wait(), 10.0)
            yield listener
        finally:
            running.cancel()
            await asyncio.wait({running})

    async def _refuses(self, serial: str) -> bool:
        if self.registry_says is None:
            raise StoreError("the registry is down")
        return serial in self.registry_says

    def device(
        self, name: str, *, expired: bool = False, anchor: Anchor = Anchor.FIRE
    ) -> tuple[Callable[[int], Endpoint], IssuedCertificate]:
        """A certificate, in time or long out of it: where to post with it, by port."""
        issuing = self.authority
        if expired:
            then = ManualClock(now_ms=self.clock.wall_ms() - LONG_AGO_MS)
            issuing = Authority.open(self.folder / "ca", PASSPHRASE, then)
        folder = self.folder / "devices" / secrets.token_hex(4)
        cert_file, key_file, issued = device_files(issuing, folder, anchor, name)
        return (lambda port: Endpoint("127.0.0.1", port, self.trusted, cert_file, key_file)), issued

    def message(self, seq: int, values: dict[str, Any], **more: Any) -> ReadingMessage:
        """A reading of this table's boot."""
        return ReadingMessage(boot=self.boot, seq=seq, values=values, **more)

    def arrival(self, device: str, message: ReadingMessage) -> Arrival:
        """The same as it comes off the broker."""
        return Arrival(topics.up("fire", device, "reading", device), encode(message), False, self.clock.wall_ms())  # noqa: FBT003

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the journal holds."""
        return self.journal.connection.execute(query).fetchall()

    @contextmanager
    def stuck(self) -> Iterator[None]:
        """Somebody else holds the journal's file: no commit comes through."""
        with closing(sqlite3.connect(self.folder / "journal.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")
