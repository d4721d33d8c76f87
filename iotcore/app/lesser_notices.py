"""What a receiving centre is told that is no fire: troubles, supervisory signals, what is disabled or in walk test. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from iotcore.alarms.responders import NO_ACCOUNT
from iotcore.journal import drills
from iotcore.journal.outages import Begun
from iotcore.journal.paths import PREFIX
from iotcore.journal.records import Event, Notice, Outage
from iotcore.journal.told import Work
from iotcore.registry.directory import Directory, Disablement, Target, Walk


def of_work(work: Work, directory: Directory, account: str) -> Notice | None:
    """What is said; None: nobody knows what it is about. `account` is that of link tests, for what has no premises."""
    event: Event = "restore" if work.state == "restore" else "alarm"
    if work.severity in {"disablement", "walk"}:
        return None if work.notice is None else msgspec.structs.replace(work.notice, event=event)
    binding = directory.devices.get(work.device)
    if binding is None and not work.device.startswith((PREFIX, drills.PREFIX)):
        return None
    premises, zone = (binding.premises, binding.zone) if binding else (work.device.removeprefix(drills.PREFIX), "")
    return Notice(
        event=event,
        hazard=work.reason,
        severity=work.severity,  # type: ignore[arg-type]  # a trouble or a supervisory signal
        device=work.device,
        point="",
        rule=work.reason,
        reason=work.reason,
        occurred_ms=work.since_ms,
        **_place(directory, premises, zone, account),
    )


def of_outage(one: Disablement | Walk, directory: Directory) -> Begun:
    """A disablement or a walk test that holds, and what receivers are told of it."""
    target = one.target if isinstance(one, Disablement) else _walked(one)
    binding = directory.devices.get(target.subject) if target.kind in {"point", "device"} else None
    zone = target.subject if target.kind == "zone" else binding.zone if binding else ""
    since_ms = float(one.started_ms or 0)
    kind: Outage = "disablement" if isinstance(one, Disablement) else "walk"
    place = _place(directory, one.premises, zone, NO_ACCOUNT)
    notice = Notice(
        event="alarm",
        hazard=target.kind,
        severity="advisory",
        device=f"{target.subject}/{target.point}" if target.point else target.subject,
        point=target.point,
        rule="",
        reason="",
        occurred_ms=since_ms,
        title=binding.title if binding else "",
        location=binding.location if binding else "",
        outage=kind,
        **{**place, "incident": one.id},
    )
    return Begun(one.id, kind, notice, directory.response(one.premises).receivers, since_ms)


def _walked(walk: Walk) -> Target:
    return Target("zone", walk.zone) if walk.zone else Target("premises", walk.premises)


def _place(directory: Directory, premises: str, zone: str, account: str) -> dict[str, Any]:
    """Where it is, and what no alarm gives a value for."""
    site, part = directory.premises.get(premises), directory.zones.get(zone)
    return {
        "incident": "",
        "premises": site.id if site else "",
        "premises_name": site.name if site else "",
        "address": site.address if site else "",
        "latitude": site.latitude if site else 0.0,
        "longitude": site.longitude if site else 0.0,
        "account": site.account if site else account,
        "zone": part.id if part else "",
        "zone_number": part.number if part else 0,
        "zone_name": part.name if part else "",
        "floor": part.floor if part else "",
        "value": None,
        "unit": "",
    }
