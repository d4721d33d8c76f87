"""Web: page, live stream, enrolment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from drivers.modbus import roster
from iotcore import metrics
from iotcore.app import coverage_history, first, rule_pages
from iotcore.app.act_pages import act_pages
from iotcore.app.common import anchors_of, opened, specs_of
from iotcore.app.receivers import answering
from iotcore.clock import Clock, SystemClock
from iotcore.off_loop import Threads
from iotcore.paper.signed import Seal
from iotcore.process import home
from iotcore.process.alive import alive
from iotcore.process.follow import Follower
from iotcore.process.grouped import Grouped
from iotcore.process.room import Room
from iotcore.process.serve import beats
from iotcore.provision.ca import Authority
from iotcore.provision.confirm import Confirmation
from iotcore.provision.enroll import Enrolment
from iotcore.provision.file_folder import FileFolder
from iotcore.registry.accounts import Accounts, accounts
from iotcore.registry.admissions import Admissions
from iotcore.registry.commissioning import Commissioning
from iotcore.registry.coverage_days import CoverageDays
from iotcore.registry.directory import Directory
from iotcore.registry.enrolments import Enrolments
from iotcore.registry.groups import GroupStore
from iotcore.registry.places import Places
from iotcore.registry.store import Registry
from iotcore.settings import Settings
from iotcore.telemetry import reported
from iotcore.telemetry.coverage import signs_of_life
from iotcore.telemetry.query import Query, open_query
from iotcore.telemetry.stores import TELEMETRY_DB
from iotcore.web import confirm
from iotcore.web.app import LOOPBACK_NAMES, Part
from iotcore.web.app import create as create_page
from iotcore.web.bilingual import Both
from iotcore.web.case_view import CaseView
from iotcore.web.checklist import Budget
from iotcore.web.commissioning import Desk
from iotcore.web.coverage import CoveragePages
from iotcore.web.enrol import EnrolPages
from iotcore.web.enrolments import EnrolmentPages
from iotcore.web.est import EstListener, server_context
from iotcore.web.groups import GroupPages
from iotcore.web.press import MOST_WAITING, Press
from iotcore.web.receivers import ReceiverPages
from iotcore.web.records import Records
from iotcore.web.revocation import RevocationListener
from iotcore.web.server import serve as serve_page
from iotcore.web.view import StoredView
from iotcore.web.words import load


async def run(settings: Settings) -> None:
    """The page and the enrolment listener. It writes intents, and neither the journal nor MQTT."""
    clock = SystemClock()
    room = Room(settings, "web", clock)
    async with opened(settings, clock, room) as (registry, follower), open_query(settings, clock) as query:
        await _serve_web(settings, registry, follower, query, clock)


async def _serve_web(settings: Settings, registry: Registry, follower: Follower, query: Query, clock: Clock) -> None:
    authority = home.authority(settings, clock)
    tls = server_context(authority, settings.folder / "certs", settings.web.est_names)
    people = accounts(registry.database, settings.people.session_idle_s, settings.people.session_s)
    await first.keep_link(settings, people)
    reports = settings.folder / TELEMETRY_DB
    grouped = Grouped(GroupStore(registry.database), lambda: follower.directory, lambda: reported.firmware(reports), clock)
    rules = rule_pages.ruled(settings, registry, clock)
    seal = sealing(lambda: home.papers(settings, authority, clock))
    page = create_page(
        view=StoredView(settings.folder, lambda: follower.directory, settings.journal_place),
        directory=lambda: follower.directory,
        accounts=people,
        people=settings.people,
        oidc=settings.oidc,
        first_used=lambda: first.forget(settings),
        intend=registry.intent,
        audit=registry.note,
        certificates=registry.certificates,
        clock=clock,
        language=settings.web.language,
        hosts=[*LOOPBACK_NAMES, settings.web.host, *settings.web.names, *_labelled(settings)],
        desk=desk(settings, registry, lambda: follower.directory, seal),
        processes=lambda: beats(settings.folder, clock),
        query=query,
        records=_records(settings, registry, grouped),
        parts=[
            _coverage(settings, registry, follower, clock),
            GroupPages(grouped, lambda: follower.directory),
            rule_pages.pages(
                *(settings, rules, registry, people),
                directory=lambda: follower.directory,
                grouped=grouped,
                query=query,
                clock=clock,
            ),
            EnrolPages(lambda: follower.directory, registry.devices_of_serial),
            EnrolmentPages(Enrolments(registry.database), lambda: follower.directory),
            *_acts(settings, registry, follower, people, seal, clock),
        ],
    )
    specs = specs_of(settings)
    admissions = Admissions(registry.database, lambda model: anchors_of(specs, model), approval=settings.web.approval)
    enrolment = Enrolment(authority, admissions.admit, admissions.refuse)
    listener = EstListener(
        enrolment, tls, clock, host=settings.web.est_host, port=settings.web.est_port, extras=_confirming(authority, registry)
    )
    metrics.enrolment_refused.ask(lambda: float(listener.refusals.lately))
    metrics.enrolment_burst.ask(lambda: float(listener.refusals.bursting()))
    metrics.enrolment_waiting.ask(lambda: float(admissions.waiting))
    async with admissions, listener, _revocation(settings, registry, authority, clock), asyncio.TaskGroup() as group:
        group.create_task(follower.run())
        group.create_task(grouped.run())
        group.create_task(rules.run())
        group.create_task(alive(settings, "web", clock, listener.refusals.state))
        group.create_task(serve_page(page, settings.web.host, settings.web.port))


def _confirming(authority: Authority, registry: Registry) -> Any:
    """The path by which a device says that its new certificate has connected."""
    said = Confirmation(authority, registry.refuses_certificate, lambda serial: registry.confirm_certificate(serial, "est"))
    return (confirm.route(said),)


def _acts(  # noqa: PLR0917 - what they stand on
    settings: Settings, registry: Registry, follower: Follower, people: Accounts, seal: Callable[[], Seal], clock: Clock
) -> list[Part]:
    cases = CaseView(settings.journal_place, lambda: follower.directory)
    heard = ReceiverPages(answering(settings), registry.intent, cases.was_told, clock)
    press = pressing(registry, seal)
    return [heard, *act_pages(settings, registry, lambda: follower.directory, cases, people, specs_of(settings), press, clock)]


def pressing(registry: Registry, seal: Callable[[], Seal]) -> Press:
    """Where papers of this process are made, one after the other."""
    return Press(Threads("papers", most=MOST_WAITING), seal, Both(load("vi"), load("en")), registry.note)


def sealing(papers: Callable[[], tuple[Path, Path]]) -> Callable[[], Seal]:
    """What papers are signed with, read at each paper."""

    def seal() -> Seal:
        certificate, key = papers()
        return Seal(certificate.read_bytes(), key.read_bytes())

    return seal


def desk(settings: Settings, registry: Registry, directory: Callable[[], Directory], seal: Callable[[], Seal]) -> Desk:
    """What commissioning works with."""

    def budget(device: str) -> Budget | None:
        said = roster.verdict(directory(), device, settings.modbus_interval_s or None)
        return None if said is None else Budget(*said)

    return Desk(Commissioning(registry.database), FileFolder(settings.folder / "files"), seal, budget)


def _labelled(settings: Settings) -> list[str]:
    """The name that labels lead to."""
    name = urlsplit(settings.web.public_url).hostname
    return [name] if name else []


def _records(settings: Settings, registry: Registry, grouped: Grouped) -> Records:
    places = Places(registry.database)
    return Records(places.known, places.file, FileFolder(settings.folder / "files").read, grouped.of)


def _coverage(settings: Settings, registry: Registry, follower: Follower, clock: Clock) -> CoveragePages:
    return CoveragePages(
        directory=lambda: follower.directory,
        signs=lambda: signs_of_life(coverage_history.files(settings)),
        days=CoverageDays(registry.database),
        clock=clock,
        tested_within_days=settings.coverage.tested_within_days,
        goal_year=settings.coverage.goal_year,
    )


@asynccontextmanager
async def _revocation(settings: Settings, registry: Registry, authority: Authority, clock: Clock) -> AsyncIterator[None]:
    """Lists and OCSP over plain HTTP, where the settings give them a port."""
    if not settings.web.crl_port:
        yield
        return
    host, port = settings.web.est_host, settings.web.crl_port
    async with RevocationListener(authority, registry.has_certificate, clock, host=host, port=port):
        yield
