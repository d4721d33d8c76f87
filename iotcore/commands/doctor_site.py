"""iotcore doctor on a gateway at a site: its disk, clock, units, certificates, brokers, and what waits or was lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from iotcore.app import common
from iotcore.clock import Clock
from iotcore.commands.doctor import MIN_CERTIFICATE_DAYS, Finding, checked, clock_check, disk_check
from iotcore.gateway import units
from iotcore.gateway.children import Children
from iotcore.process.serve import beats
from iotcore.provision.identity import load
from iotcore.settings import Gateway, Settings

START = "Start it: systemctl start iotcore-gateway."
ENROL = "Make a token at the core (`iotcore token`), set gateway.{}_token, and restart the gateway."


async def examine(settings: Settings, clock: Clock) -> list[Finding]:
    """Look at everything; one thing that fails keeps nobody from looking at the next."""
    site = settings.gateway
    assert site is not None
    said = beats(settings.folder, clock).get("modbus", {})
    checks: list[tuple[str, str, Callable[[], Awaitable[Finding]]]] = [
        ("data folder", "Free disk space, or mend the folder's permissions.", lambda: disk_check(settings)),
        ("clock", "Let the machine keep time: timedatectl set-ntp true.", lambda: clock_check(clock)),
        ("units", "Mend the units file.", lambda: _units(settings, site)),
        *((f"{one} certificate", ENROL.format(one), _certificate_check(settings, site, one, clock)) for one in ("fire", "field")),
        ("process modbus", START, lambda: _process(said)),
        ("modbus units", "See the unit, its line and its connection string.", lambda: _failing(said)),
        ("outbox", "See the brokers and the link to the core; free disk space.", lambda: _outbox(said)),
    ]
    return [await checked(name, remedy, check) for name, remedy, check in checks]


def _children(settings: Settings, site: Gateway) -> Children:
    directory = units.read(Path(site.units), site.id, common.specs_of(settings))
    return Children(lambda: directory, site.id)


async def _units(settings: Settings, site: Gateway) -> Finding:
    children = _children(settings, site)
    fire = "with" if children.has_fire() else "without"
    return Finding("units", well=True, said=f"{len(children().devices)} in {site.units}, {fire} fire units")


def _certificate_check(settings: Settings, site: Gateway, anchor: str, clock: Clock) -> Callable[[], Awaitable[Finding]]:
    async def check() -> Finding:
        name = f"{anchor} certificate"
        identity = load(settings.folder / "certs" / f"{site.id}-{anchor}.pem", site.id)
        if identity is None:
            if anchor == "fire" and not _children(settings, site).has_fire():
                return Finding(name, well=True, said="not needed: no fire units")
            return Finding(name, well=False, said="there is none", remedy=ENROL.format(anchor))
        days = (identity.expires_ms - clock.wall_ms()) / 86_400_000.0
        said = f"good for {days:.0f} days"
        if days < 0:
            return Finding(name, well=False, said=f"expired {-days:.0f} days ago", remedy=ENROL.format(anchor))
        if days < MIN_CERTIFICATE_DAYS:
            return Finding(name, well=False, said=said, remedy="It should have renewed itself: see its log and gateway.est_url.")
        return Finding(name, well=True, said=said)

    return check


async def _process(said: dict[str, Any]) -> Finding:
    if not said:
        return Finding("process modbus", well=False, said="not running", remedy=START)
    if not said.get("connected"):
        why, remedy = said.get("said") or "without a broker", "Check the brokers' host and port, and the link."
        return Finding("process modbus", well=False, said=f"runs, {why}", remedy=remedy)
    return Finding("process modbus", well=True, said=f"runs as {said['pid']}, connected")


async def _failing(said: dict[str, Any]) -> Finding:
    failing = said.get("failing", {})
    if failing:
        told = "; ".join(f"{device}: {why}" for device, why in failing.items())
        return Finding("modbus units", well=False, said=told, remedy="See the unit, its line and its connection string.")
    return Finding("modbus units", well=True, said=f"{said.get('polls', 0)} polls since the start, none fails now")


async def _outbox(said: dict[str, Any]) -> Finding:
    health = said.get("gateway", {})
    evicted = int(said.get("evicted", 0))
    text = f"{said.get('kept', 0)} readings wait for their receipt; {evicted} given up ever"
    if health.get("reserve_ready") is False:
        remedy = "Free disk space: without it a full disk can cost fire readings."
        return Finding("outbox", well=False, said=f"no space is put aside for fires; {text}", remedy=remedy)
    return Finding("outbox", well=True, said=text)
