"""The pages of what people decide: incidents whole, alarms, what is out of service, response plans, the owner's answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from iotcore.clock import Clock
from iotcore.registry.accounts import Accounts
from iotcore.registry.directory import Directory
from iotcore.registry.disablements import Disablements
from iotcore.registry.owner_links import OwnerLinks
from iotcore.registry.responses import Responses
from iotcore.registry.store import Registry
from iotcore.registry.walks import Walks
from iotcore.settings import Settings
from iotcore.specs.model import DeviceSpec
from iotcore.web.alarms import AlarmPages
from iotcore.web.app import Part
from iotcore.web.case_view import CaseView
from iotcore.web.cases import CasePages
from iotcore.web.drill_reports import DrillReports
from iotcore.web.drills import DrillPages
from iotcore.web.out import Out
from iotcore.web.outages import OutagePages
from iotcore.web.owner import OwnerPage
from iotcore.web.premises import PremisesPages
from iotcore.web.press import Press
from iotcore.web.reports import IncidentReports


def act_pages(  # noqa: PLR0917 - the parts that they stand on
    settings: Settings,
    registry: Registry,
    directory: Callable[[], Directory],
    view: CaseView,
    people: Accounts,
    specs: Mapping[str, DeviceSpec],
    press: Press,
    clock: Clock,
) -> list[Part]:
    """All of them, over one registry and one view of the journal."""
    out = Out(directory, clock)
    case = lambda incident: view.case(incident, clock.wall_ms())  # noqa: E731 - asked at each request
    outages = OutagePages(
        Disablements(registry.database),
        Walks(registry.database),
        out,
        directory,
        specs,
        view.proved,
        settings.people.two_person,
    )
    return [
        CasePages(case, view.premises, directory, registry.intent, out, clock),
        IncidentReports(
            view.premises,
            lambda incident, devices: view.look(incident, devices, clock.wall_ms()),
            directory,
            registry.database,
            press,
            settings.journal_place,
            clock,
        ),
        DrillReports(directory, press, settings.journal_place, clock),
        AlarmPages(
            lambda: view.standing(clock.wall_ms()),
            lambda number: view.alarm(number, clock.wall_ms()),
            directory,
            registry.intent,
            clock,
        ),
        outages,
        PremisesPages(
            Responses(registry.database),
            out,
            directory,
            people,
            [receiver.name for receiver in settings.receivers],
            settings.people.two_person,
            outages.progress,
            view.open_incident,
            view.drills,
        ),
        DrillPages(view.drills, directory, registry.intent, clock),
        OwnerPage(case, OwnerLinks(registry.database).key, registry.intent, clock),
    ]
