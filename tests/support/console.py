"""The console over a real registry, journal and telemetry file, with a city of a few devices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quart import Quart
from quart.typing import TestClientProtocol

from iotcore.app import rule_pages
from iotcore.app.act_pages import act_pages
from iotcore.app.web import desk, pressing, sealing
from iotcore.clock import ManualClock, SystemClock
from iotcore.journal.database import Place
from iotcore.paper.signed import Seal
from iotcore.process import home
from iotcore.process.grouped import Grouped
from iotcore.process.ruled import Ruled
from iotcore.provision.ca import Authority
from iotcore.provision.file_folder import FileFolder
from iotcore.reading import Quality, Reading, Value
from iotcore.registry.accounts import Accounts, accounts
from iotcore.registry.coverage_days import CoverageDays
from iotcore.registry.directory import Directory
from iotcore.registry.enrolments import Enrolments
from iotcore.registry.groups import GroupStore
from iotcore.registry.places import Places
from iotcore.registry.records import Certificate
from iotcore.registry.rights import Grant, Role
from iotcore.registry.sessions import From
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import Oidc, People, Settings
from iotcore.settings_channels import VoiceReceiver
from iotcore.settings_receivers import WebhookReceiver
from iotcore.telemetry import reported
from iotcore.telemetry.coverage import Files, signs_of_life
from iotcore.telemetry.embedded import EmbeddedStore, TelemetryFile
from iotcore.telemetry.panel import Panel
from iotcore.telemetry.query import Query, open_query
from iotcore.web.app import DEFAULTS, LOOPBACK_NAMES, NO_PROVIDER, Part, create
from iotcore.web.case_view import CaseView
from iotcore.web.coverage import CoveragePages
from iotcore.web.enrol import EnrolPages
from iotcore.web.enrolments import EnrolmentPages
from iotcore.web.groups import GroupPages
from iotcore.web.receivers import ReceiverPages
from iotcore.web.records import Records
from iotcore.web.throttle import Throttle
from iotcore.web.view import StoredView
from tests.support.fire_journal import FireJournal
from tests.support.pki import PASSPHRASE
from tests.support.shipped import SPECS

RECEIVERS = (
    WebhookReceiver("cad", "https://cad.example/alarms", "khóa chung của trung tâm"),
    VoiceReceiver(name="voice", url="https://voice.example/call", body={}, callback_secret="khóa gọi lại của tổng đài"),
)
CITY: dict[str, Any] = {
    "premises": [
        {
            "id": f"p{i}",
            "name": name,
            "address": f"{i}2 Lê Lợi, phường Hạc Thành, Thanh Hóa",
            "latitude": 19.8,
            "longitude": 105.77,
            "account": f"A00{i}",
        }
        for i, name in enumerate(["Trường Tiểu học Lê Lợi", "Chợ Vườn Hoa"], 1)
    ],
    "zones": [
        {"id": "p1-z1", "premises": "p1", "number": 3, "floor": "2", "name": "Bếp ăn"},
        {"id": "p2-z1", "premises": "p2", "number": 1, "floor": "1", "name": "Dãy hàng vải"},
    ],
    "devices": [
        {"id": "modbus-1", "title": "Cổng Modbus trung tâm", "model": "iotcore-modbus-gateway"},
        {"id": "d1", "title": "Đầu báo bếp ăn", "model": "iotcore-smoke-heat", "premises": "p1", "zone": "p1-z1"},
        {"id": "d2", "title": "Đầu báo dãy hàng vải", "model": "iotcore-smoke-heat", "premises": "p2", "zone": "p2-z1"},
        {
            "id": "air-1",
            "title": "Trạm không khí Hạc Thành",
            "model": "vaisala-aqt530",
            "parent": "modbus-1",
            "connection": "tcp://127.0.0.1:5020?device_id=1",
        },
    ],
}


@dataclass(slots=True)
class Console:
    """Everything behind the page, and the page."""

    app: Quart
    registry: Registry
    fire: FireJournal
    panel: Panel
    clock: ManualClock
    directory: Directory
    store: EmbeddedStore
    people: Accounts
    throttle: Throttle  # its time is `clock`, and stands still
    grouped: Grouped
    rules: Ruled

    async def sign_in(self, name: str, *grants: Grant) -> str:
        """A user with these roles who is signed in; the cookie of their browser."""
        if not any(one.name == name for one in await self.people.people.everybody()):
            await self.people.people.add(name, grants, "tester")
        opened = await self.people.sessions.open(name, "password", From("127.0.0.1"))
        return f"session={opened.session}"

    async def client(self, name: str = "an", *grants: Grant) -> TestClientProtocol:
        """A browser that is signed in, as an admin of everything unless `grants` say otherwise."""
        client = self.app.test_client()
        cookie = await self.sign_in(name, *(grants or (Grant(Role.ADMIN),)))
        client.set_cookie("localhost", "session", cookie.removeprefix("session="))
        return client

    def all_good(self, device: str, **others: float | bool) -> list[Value]:
        """A good value of every point that a device has."""
        values = {"smoke": 0.02, "temperature": 24.1, "alarm": False, "button": False, "battery": 97.0, **others}
        return [Value(point, values[point]) for point in self.directory.devices[device].spec.points]

    async def report(self, device: str, *values: Value) -> None:
        """A reading has come through the telemetry lane."""
        now_ms = self.clock.wall_ms()
        reading = Reading(device, "b1", 1, "reading", now_ms, now_ms, values)
        self.panel.readings([reading])
        self.panel.judge([reading])
        await self.panel.write()


@asynccontextmanager
async def console(
    folder: Path,
    processes: Mapping[str, Any] | None = None,
    *,
    areas: Sequence[Mapping[str, str]] = (),
    area_of: Mapping[str, str] | None = None,
    hosts: Sequence[str] = LOOPBACK_NAMES,
    people: People = DEFAULTS,
    oidc: Oidc = NO_PROVIDER,
    first_used: Callable[[], None] = lambda: None,
    journal: Place | None = None,
) -> AsyncIterator[Console]:
    """A console whose time stands still at ManualClock's, with a city, one certificate, and readings of three devices.

    `areas` are registered besides, and `area_of` says in which a building lies. `journal` is journal.db unless it is given.
    """
    clock = ManualClock()
    registry = await _registered(folder, clock, areas, area_of or {})
    directory = await registry.directory(SPECS)
    fire = FireJournal(journal := journal or folder / "journal.db", clock)
    throttle, places = Throttle(clock.monotonic_s), Places(registry.database)
    view = StoredView(folder, lambda: made.directory, journal)
    known = accounts(registry.database, people.session_idle_s, people.session_s)
    settings, cases = Settings(data=str(folder), people=people), CaseView(journal, lambda: made.directory)
    async with TelemetryFile(folder / "telemetry.db") as file, open_query(settings, clock) as query:
        telemetry = folder / "telemetry.db"
        grouped = Grouped(GroupStore(registry.database), lambda: made.directory, lambda: reported.firmware(telemetry), clock)
        rules = rule_pages.ruled(settings, registry, SteadyClock(clock))
        await rules.start()
        app = create(
            view=view,
            directory=lambda: made.directory,
            accounts=known,
            people=people,
            oidc=oidc,
            first_used=first_used,
            throttle=throttle,
            hosts=hosts,
            intend=registry.intent,
            audit=registry.note,
            certificates=registry.certificates,
            clock=SteadyClock(clock),
            desk=desk(settings, registry, lambda: made.directory, _seal(settings)),
            processes=None if processes is None else lambda: processes,
            query=query,
            records=Records(places.known, places.file, FileFolder(folder / "files").read, grouped.of),
            parts=_parts(settings, registry, clock, grouped, lambda: made.directory, cases, known, rules, query),
        )
        made = Console(
            app, registry, fire, Panel(file, clock), clock, directory, EmbeddedStore(file), known, throttle, grouped, rules
        )
        try:
            await made.report("d1", Value("smoke", 0.02), Value("temperature", 24.1), Value("alarm", value=False))
            await made.report("air-1", Value("pm25", 18.4), Value("no2", None, Quality.BAD, "timeout"))
            yield made
        finally:
            view.close()
            fire.close()
            await cases.close()
            await registry.close()


async def _registered(
    folder: Path, clock: ManualClock, areas: Sequence[Mapping[str, str]], area_of: Mapping[str, str]
) -> Registry:
    """A registry with the city in it, and one certificate."""
    registry = await open_registry(f"sqlite://{folder / 'registry.db'}", SystemClock())
    premises = [{**one, "area": area_of.get(one["id"], "")} for one in CITY["premises"]]
    await registry.import_city({**CITY, "premises": premises, "areas": list(areas)}, SPECS, "tester")
    await registry.record_certificate(Certificate("0a1b", "d1", "fire", int(clock.wall_ms()) + 86_400_000, "ff"), "ca")
    return registry


def authority_of(folder: Path) -> Authority:
    """The certificate authority behind the console in a folder."""
    return Authority.ensure(folder / "ca", PASSPHRASE, SystemClock())


def _seal(settings: Settings) -> Callable[[], Seal]:
    return sealing(lambda: home.papers(settings, authority_of(settings.folder), SystemClock()))


def _parts(  # noqa: PLR0917 - what they stand on
    settings: Settings,
    registry: Registry,
    clock: ManualClock,
    grouped: Grouped,
    directory: Callable[[], Directory],
    cases: CaseView,
    known: Accounts,
    rules: Ruled,
    query: Query,
) -> list[Part]:
    files = Files(settings.folder / "telemetry.db", settings.folder / "journal.db")
    days, steady = CoverageDays(registry.database), SteadyClock(clock)
    return [
        CoveragePages(directory=directory, signs=lambda: signs_of_life(files), days=days, clock=steady),
        GroupPages(grouped, directory),
        EnrolPages(directory, registry.devices_of_serial),
        EnrolmentPages(Enrolments(registry.database), directory),
        ReceiverPages(RECEIVERS, registry.intent, cases.was_told, clock),
        *act_pages(settings, registry, directory, cases, known, SPECS, pressing(registry, _seal(settings)), steady),
        rule_pages.pages(*(settings, rules, registry, known), directory=directory, grouped=grouped, query=query, clock=steady),
    ]


@dataclass(frozen=True, slots=True)
class SteadyClock:
    """Wall time as the test moves it, monotonic time as it passes: the page's own pace is real."""

    manual: ManualClock

    def wall_ms(self) -> float:
        return self.manual.wall_ms()

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()
