"""Papers from the command line: an incident looked back at, a month of drills. The audit names whoever asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from iotcore.app import common
from iotcore.app.web import sealing
from iotcore.clock import SystemClock
from iotcore.commands import office, who
from iotcore.commands.whole_file import insist_new, written_whole
from iotcore.errors import Refused
from iotcore.journal import review
from iotcore.journal.database import connect_readonly, is_there
from iotcore.off_loop import in_a_thread
from iotcore.process import home
from iotcore.registry.store import Registry
from iotcore.settings import Settings
from iotcore.web.bilingual import Both
from iotcore.web.drill_reports import DrillReports
from iotcore.web.press import Press
from iotcore.web.reports import IncidentReports
from iotcore.web.words import load


async def incident(settings: Settings, name: str, out: Path) -> int:
    """Write the after-action report of an incident to a new file; its bytes.

    Raises:
        Refused: `unknown_incident`.
        StartError: the file is there already, or cannot be written; the authority cannot be opened.
    """
    insist_new(out)  # before a paper is made that the audit would know and nobody have
    if not is_there(settings.journal_place):
        raise Refused("unknown_incident", "there is no journal yet")
    clock = SystemClock()
    async with pressed(settings) as (registry, press, by):
        directory = await registry.directory(common.specs_of(settings))
        with closing(connect_readonly(settings.journal_place)) as connection:

            async def premises(incident: str) -> str:
                return review.premises_of(connection, incident)

            async def look(incident: str, devices: review.Devices) -> review.Review | None:
                return review.read(connection, incident, devices, clock.wall_ms())

            reports = IncidentReports(
                *(premises, look, lambda: directory, registry.database, press, settings.journal_place, clock)
            )
            pdf = await reports.made(name, by)
    if pdf is None:
        raise Refused("unknown_incident", f"there is no incident {name!r}; `iotcore incidents` lists them")
    return keep(pdf, out)


async def drills(settings: Settings, month: str, area: str, out: Path) -> int:
    """Write the report of a month's drills to a new file; its bytes. `month` "": the last one; `area` "": everywhere.

    Raises:
        Refused: `bad_month`, `unknown_area`.
        StartError: as `incident`.
    """
    insist_new(out)
    async with pressed(settings) as (registry, press, by):
        directory = await registry.directory(common.specs_of(settings))
        reports = DrillReports(lambda: directory, press, settings.journal_place, SystemClock())
        return keep(await reports.made(month, area, lambda _: True, by), out)


@asynccontextmanager
async def pressed(settings: Settings) -> AsyncIterator[tuple[Registry, Press, str]]:
    """The registry, what makes papers, and who is at the command line."""
    clock = SystemClock()
    seal = sealing(lambda: home.papers(settings, home.authority(settings, clock), clock))
    async with office.opened(settings) as registry:
        press = Press(in_a_thread, seal, Both(load("vi"), load("en")), registry.note)
        yield registry, press, await who.by(settings, registry.database)


def keep(pdf: bytes, out: Path) -> int:
    """Write a paper whole; its bytes. Raises StartError."""
    with written_whole(out) as file:
        file.write(pdf)
    return len(pdf)
