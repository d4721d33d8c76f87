"""iotcore doctor: looks at everything the platform stands on, and says what to do about what is wrong."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from iotcore.app import troubles
from iotcore.backup import last
from iotcore.clock import Clock, machine_uptime
from iotcore.commands import doctor_supervision, drills, office, outages, rule, store_init
from iotcore.commands.broker_asking import round_trip
from iotcore.errors import IotError
from iotcore.journal import parked, paths
from iotcore.journal.database import UNREADABLE, connect_readonly, dialect, is_there
from iotcore.keeper import standing_still
from iotcore.process import home
from iotcore.process.credentials import environment
from iotcore.process.replicas import replicas
from iotcore.process.serve import beats
from iotcore.process.workers import parts
from iotcore.provision import custody, expiry
from iotcore.provision.acl import BrokerName
from iotcore.provision.ca import Authority
from iotcore.registry.store import open_registry
from iotcore.settings import Settings
from iotcore.settings_receivers import Dc09Receiver, Receiver, meets_at
from iotcore.telemetry.stores import open_store
from iotcore.wire.arrival import Endpoint

LIMIT_S = 5.0
MIN_FREE_BYTES = 1_000_000_000
MIN_CERTIFICATE_DAYS = expiry.LIMITS_S["service"] / expiry.DAY_S
EARLIEST_YEAR = 2026  # a clock before this release was never set
WAITING = "Free some space; it goes on by itself. Until then it acknowledges nothing, and senders keep what they have."
STALLED = "Fires go out by the emergency log meanwhile. Free some space on its disk, or start its database."
NO_EMERGENCY = "Free 8 MiB where the emergency log lies (fire.emergency_folder), and restart the process."
RULES_REMEDY = "See `iotcore rule list`; save a version that can be used, or remove it."
RECEIVER = "Check its address, the network, that it listens, and that it knows us (account, key)."
START_PART = "Start `iotcore up`, or this process by its service."


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `remedy` is "" when it is well."""

    name: str
    well: bool
    said: str
    remedy: str = ""

    def plain(self) -> dict[str, str | bool]:
        """For JSON."""
        return asdict(self)


async def examine(settings: Settings, clock: Clock) -> list[Finding]:
    """Look at everything; one thing that fails keeps nobody from looking at the next."""
    checks: list[tuple[str, str, Callable[[], Awaitable[Finding]]]] = [
        ("data folder", "Free disk space, or mend the folder's permissions.", lambda: disk_check(settings)),
        ("clock", "Let the machine keep time: timedatectl set-ntp true.", lambda: clock_check(clock)),
        ("certificates", "Start `iotcore up` once: it makes what is missing.", lambda: _certificates(settings, clock)),
        ("device certificates", expiry.REMEDIES["device"], lambda: _device_certificates(settings, clock)),
        ("registry", "Check registry.url and that the database runs.", lambda: _registry(settings, clock)),
        ("fire rules", RULES_REMEDY, lambda: _rules(settings, clock)),
        ("journal", "Start the fire process; if the file is damaged, restore the backup.", lambda: _journal(settings)),
        ("out of service", "Check registry.url and that the database runs.", lambda: _out_of_service(settings, clock)),
        ("backup", last.REMEDY, lambda: _backup(settings, clock)),
        ("store", "Check store.url, its credentials, and that it runs; telemetry waits.", lambda: _store(settings, clock)),
        *((f"{n.value} broker", f"Start it, or check brokers.{n.value}.", _broker_check(settings, n, clock)) for n in BrokerName),
        *_alternate_checks(settings, clock),
        ("dispatch", START_PART, lambda: _dispatch(settings, clock)),
        (doctor_supervision.NAME, START_PART, lambda: _supervision(settings, clock)),
        (drills.NAME, drills.REMEDY, lambda: _drills(settings)),
        *((f"process {name}", START_PART, _process_check(settings, name, clock)) for name in parts(settings)),
        *((f"receiver {r.name}", RECEIVER, _receiver_check(settings, r))
          for r in settings.receivers),
    ]  # fmt: skip
    return [await checked(name, remedy, check) for name, remedy, check in checks]


async def checked(name: str, remedy: str, check: Callable[[], Awaitable[Finding]]) -> Finding:
    """What a check finds, or what kept it from finding anything."""
    try:
        return await asyncio.wait_for(check(), LIMIT_S)
    except TimeoutError:
        return Finding(name, well=False, said=f"did not answer in {LIMIT_S:.0f} s", remedy=remedy)
    except (IotError, OSError, sqlite3.Error) as error:
        return Finding(name, well=False, said=str(error), remedy=remedy)


async def disk_check(settings: Settings) -> Finding:
    """Whether the data folder can be written, and has room."""
    home.check_folder(settings.folder)
    free = shutil.disk_usage(settings.folder).free
    said = f"{free / 1e9:.1f} GB free in {settings.folder}"
    if free < MIN_FREE_BYTES:
        return Finding(
            "data folder", well=False, said=said, remedy="Free some space: below 1 GB a flood of readings can fill it."
        )
    return Finding("data folder", well=True, said=said)


async def clock_check(clock: Clock) -> Finding:
    """Whether the clock was set, and is kept."""
    year = time.gmtime(clock.wall_ms() / 1000.0).tm_year
    if year < EARLIEST_YEAR:
        return Finding("clock", well=False, said=f"the clock says {year}", remedy="Set it: timedatectl set-ntp true.")
    synchronised = await asyncio.to_thread(_synchronised)
    if synchronised == "no":
        return Finding("clock", well=False, said="not synchronised", remedy="Let it be: timedatectl set-ntp true.")
    return Finding("clock", well=True, said="synchronised" if synchronised == "yes" else "plausible; no time service to ask")


def _synchronised() -> str:
    program = shutil.which("timedatectl")
    if program is None:
        return ""
    asked = subprocess.run(  # noqa: S603 - a fixed command
        [program, "show", "-p", "NTPSynchronized", "--value"], capture_output=True, text=True, check=False, timeout=LIMIT_S
    )
    return asked.stdout.strip()


async def _certificates(settings: Settings, clock: Clock) -> Finding:
    folder = settings.folder / "ca"
    certs = settings.folder / "certs"
    given = environment(os.environ)
    authority = Authority.open(folder, custody.passphrase(folder, given), clock, pin=custody.pin(given))
    certs = settings.folder / "certs"
    missing = [cn for cn in home.clients(settings) if not (certs / f"{cn}.pem").exists()]
    if missing:
        remedy = "Start `iotcore up` once: it makes what is missing."
        return Finding("certificates", well=False, said=f"there is none of {', '.join(missing)}", remedy=remedy)
    found = expiry.examined(authority, home.shown(settings), clock)
    first = {one.kind: one for one in reversed(found)}
    days = {kind: one.left_s / expiry.DAY_S for kind, one in first.items()}
    said = (
        f"first to expire: {first['service'].name} in {days['service']:.0f} days; revocation lists good for "
        f"{days['list'] * 24.0:.0f} h, the authority for {days['authority']:.0f} days"
    )
    remedy = expiry.REMEDIES[found[0].kind] if found[0].alarming else ""
    return Finding("certificates", well=not remedy, said=said, remedy=remedy)


async def _device_certificates(settings: Settings, clock: Clock) -> Finding:
    """Whose certificates run out; a fire device that is late is worse than many others."""
    name = "device certificates"
    if not settings.registry.url and not await asyncio.to_thread((settings.folder / "registry.db").exists):
        return Finding(name, well=True, said="none yet")
    async with office.opened(settings) as registry:
        found = await troubles.endings(registry, clock)
    if not found:
        return Finding(name, well=True, said=f"all hold for more than {troubles.ENDING_S / expiry.DAY_S:.0f} days")
    over = sum(one.until_ms <= clock.wall_ms() for one in found)
    days = (found[0].until_ms - clock.wall_ms()) / 1000.0 / expiry.DAY_S
    said = (
        f"{over} have run out, {len(found) - over} do within {troubles.ENDING_S / expiry.DAY_S:.0f} days; "
        f"first {found[0].device} ({found[0].anchor}): {days:.1f} days left"
    )
    return Finding(name, well=False, said=said, remedy=expiry.REMEDIES["device"])


async def _registry(settings: Settings, clock: Clock) -> Finding:
    if not settings.registry.url and not await asyncio.to_thread((settings.folder / "registry.db").exists):
        return Finding("registry", well=False, said="there is none yet", remedy="Start `iotcore up`, or `iotcore import FILE`.")
    registry = await open_registry(settings.registry_url, clock)
    try:
        breaks = [one for one in await registry.verify_audit() if one.tampered]
    finally:
        await registry.close()
    if breaks:
        return Finding(
            "registry", well=False, said=f"the audit is broken: {breaks[0]}", remedy="Find out who changed the database."
        )
    return Finding("registry", well=True, said="open; the audit chain is whole")


async def _rules(settings: Settings, clock: Clock) -> Finding:
    """Whether every rule document can be used; by this version of iotcore, as the fire process reads them."""
    if not settings.registry.url and not await asyncio.to_thread((settings.folder / "registry.db").exists):
        return Finding("fire rules", well=True, said="those of the base; no registry yet")
    async with rule.opened(settings, clock) as book:
        rules, troubles = len(book.ruled.in_use), book.ruled.troubles
    if troubles:
        return Finding("fire rules", well=False, said=f"{len(troubles)} cannot be used: {troubles[0]}", remedy=RULES_REMEDY)
    return Finding("fire rules", well=True, said=f"{rules} in use")


async def _journal(settings: Settings) -> Finding:
    connection = connect_readonly(settings.journal_place)
    try:
        is_file = dialect(connection) == "sqlite"
        said = connection.execute("PRAGMA quick_check(1)").fetchone()[0] if is_file else "ok"
        waiting = connection.execute("SELECT count(*) FROM outbox WHERE acknowledged_ms IS NULL").fetchone()[0]
        held = len(parked.listed(connection))
        rejected = connection.execute(
            "SELECT DISTINCT channel FROM outbox WHERE acknowledged_ms IS NULL AND last_error LIKE 'rejected%' ORDER BY channel"
        ).fetchall()
    finally:
        connection.close()
    if said != "ok":
        return Finding(
            "journal", well=False, said=str(said), remedy="Stop the fire process and restore journal.db from the backup."
        )
    if held:
        said = f"{held} notices wait for a person: of a restored backup, or rejected for an hour"
        return Finding("journal", well=False, said=said, remedy="Decide on each: iotcore notice list")
    if rejected:
        said = f"REJECTED by {', '.join(row[0] for row in rejected)}; {waiting} notices wait for a receiver"
        return Finding("journal", well=False, said=said, remedy="Call them, and see the incident for why they said no.")
    if waiting:
        return Finding("journal", well=False, said=f"{waiting} notices wait for a receiver", remedy="See the receivers below.")
    return Finding("journal", well=True, said=f"{'whole' if is_file else 'on PostgreSQL'}; nothing waits for a receiver")


async def _dispatch(settings: Settings, clock: Clock) -> Finding:
    """Whether anybody works on every alarm."""
    still = await asyncio.to_thread(standing_still, settings.journal_place, machine_uptime(), clock)
    said = "; ".join(still[:3]) or "every alarm is being worked on"
    return Finding("dispatch", well=not still, said=said, remedy=START_PART if still else "")


async def _drills(settings: Settings) -> Finding:
    missed, said = await asyncio.to_thread(drills.examine, settings)
    return Finding(drills.NAME, well=not missed, said=said, remedy=drills.REMEDY if missed else "")


async def _out_of_service(settings: Settings, clock: Clock) -> Finding:
    """What is disabled or in walk test is no fault, and is always said."""
    found = await outages.standing(settings, clock.wall_ms())
    return Finding("out of service", well=True, said="; ".join(found) or "nothing is disabled or in walk test")


async def _backup(settings: Settings, clock: Clock) -> Finding:
    found = last.due(settings, clock)
    return Finding("backup", well=not found.overdue, said=found.said, remedy=last.REMEDY if found.overdue else "")


async def _store(settings: Settings, clock: Clock) -> Finding:
    if settings.store.kind != "embedded":
        said, remedy = await store_init.examine(settings.store, clock)
        return Finding("store", well=not remedy, said=said, remedy=remedy)
    async with open_store(settings, clock) as store:
        await store.ensure()
    return Finding("store", well=True, said="embedded answers")


def _broker_check(settings: Settings, name: BrokerName, clock: Clock) -> Callable[[], Awaitable[Finding]]:
    async def check() -> Finding:
        answer = await round_trip(settings, name, clock, LIMIT_S - 1.0)
        if answer.trouble:
            remedy = f"Start it, or check brokers.{name.value} in the settings."
            return Finding(f"{name.value} broker", well=False, said=answer.trouble, remedy=remedy)
        said = f"a message to ourselves took {answer.took_ms:.1f} ms"
        told = beats(settings.folder, clock).get(f"broker-{name.value}", {})
        if trouble := _broker_trouble(told):
            return Finding(f"{name.value} broker", well=False, said=f"{said}; {trouble[0]}", remedy=trouble[1])
        if "dropped" in told:
            said += f"; {told['clients']} clients, {told['dropped']} messages dropped since its start"
        if port := home.broker_settings(settings, name).password_port:
            endpoint = home.endpoint(settings, name, home.DOCTOR_FIRE if name is BrokerName.FIRE else home.DOCTOR_FIELD)
            _, writer = await asyncio.open_connection(endpoint.host, port, ssl=_trusting(endpoint), server_hostname="localhost")
            writer.close()
            said += f"; port {port} takes vendors' devices by password, whose identity nobody proves"
        return Finding(f"{name.value} broker", well=True, said=said)

    return check


def _alternate_checks(settings: Settings, clock: Clock) -> list[tuple[str, str, Callable[[], Awaitable[Finding]]]]:
    """Whether the listener shows a certificate that devices trust; ours is no device's, so it is not asked more."""
    remedy = "Stop what else listens there, or choose another port (fire.https_port in the settings)."

    async def check() -> Finding:
        told = beats(settings.folder, clock)
        for said in (told.get(one.name, {}) for one in replicas(settings)):
            if said.get("https_trouble"):
                return Finding("alternate path", well=False, said=str(said["https"]), remedy=remedy)
        host, port = settings.fire.https_host, settings.fire.https_port
        trusting = ssl.create_default_context(cafile=str(settings.folder / "certs" / "service-root.pem"))
        _, writer = await asyncio.open_connection(host, port, ssl=trusting, server_hostname=settings.fire.https_names[0])
        writer.close()
        expired = "deliver alarms only" if settings.fire.expired == "alarms" else "are refused"
        return Finding("alternate path", well=True, said=f"{host}:{port} takes connections; expired certificates {expired}")

    return [("alternate path", remedy, check)] if settings.fire.https_port else []


async def _supervision(settings: Settings, clock: Clock) -> Finding:
    said = doctor_supervision.of(beats(settings.folder, clock))
    if said is None:
        return Finding(doctor_supervision.NAME, well=False, said="no fire process tells", remedy=START_PART)
    well, told = doctor_supervision.told(said)
    return Finding(doctor_supervision.NAME, well=well, said=told, remedy="" if well else doctor_supervision.REMEDY)


def _broker_trouble(told: Mapping[str, Any]) -> tuple[str, str] | None:
    """What the broker's process has seen in its log within the hour, and what to do."""
    for clone in told.get("clones", ()):
        said = f"{clone['name']} connects from {' and '.join(clone['addresses'])} by turns: two hold its key"
        return said, f"Find the stranger; iotcore device revoke {clone['name']}, then a new token for the true one."
    if overflows := told.get("overflows"):
        return f"messages for {', '.join(overflows)} are dropped: its queue is full", "Start what should take them."
    if burst := told.get("burst"):
        where = ", ".join(burst["addresses"]) or "unknown"
        return f"{burst['refused']} connections refused in a burst (from {where})", "See the broker's log; block the address."
    return None


def _trusting(endpoint: Endpoint) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(endpoint.ca_file))


def _process_check(settings: Settings, name: str, clock: Clock) -> Callable[[], Awaitable[Finding]]:
    async def check() -> Finding:
        said = beats(settings.folder, clock).get(name)
        if said is None:
            return Finding(f"process {name}", well=False, said="not running", remedy=START_PART)
        if (trouble := _process_trouble(said, clock)) is not None:
            return Finding(f"process {name}", well=False, said=trouble[0], remedy=trouble[1])
        waits = f"; {said['kept']} readings wait for the core, {said['evicted']} given up ever" if "kept" in said else ""
        return Finding(f"process {name}", well=True, said=f"runs as {said['pid']}{waits}")

    return check


def _process_trouble(said: Mapping[str, Any], clock: Clock) -> tuple[str, str] | None:
    """What a process that runs says is wrong with it, the worst first, and what to do."""
    if said.get("waits_for"):
        return f"runs, and waits: {said['waits_for']}", WAITING
    if (fire := _fire_trouble(said, clock)) is not None:
        return fire
    if said.get("connected") is False:
        return "runs, without its broker", "See the brokers above."
    if said.get("refused_burst"):
        remedy = "See `iotcore audit show --last 50` for whom and from where; cut that address off, or mend the device."
        return f"runs; {said['refused_lately']} enrolments were refused in this minute", remedy
    if said.get("metrics_trouble"):
        remedy = "Stop what listens there, or choose another (metrics.port in the settings)."
        return f"runs, without metrics: {said['metrics']}", remedy
    return None


def _fire_trouble(said: Mapping[str, Any], clock: Clock) -> tuple[str, str] | None:
    """What keeps a fire process from its journal, or would in an emergency."""
    if (since_ms := said.get("journal_stalled")) is not None:
        silent_s = (clock.wall_ms() - since_ms) / 1000.0
        return f"runs; the journal has not answered for {silent_s:.0f} s: {said.get('journal_trouble')}", STALLED
    if said.get("emergency", {}).get("room") is False:
        return "runs, without room for its emergency log", NO_EMERGENCY
    return None


def _receiver_check(settings: Settings, receiver: Receiver) -> Callable[[], Awaitable[Finding]]:
    """What its link tests say, and whether it can be reached (and shows a certificate that we trust): no alarm is sent."""

    async def check() -> Finding:
        name, (host, port, tls) = f"receiver {receiver.name}", meets_at(receiver)
        path = await asyncio.to_thread(_path, settings, receiver.name)
        if path is not None and not path.up:
            return Finding(name, well=False, said=f"no path: {path.reason or 'nothing was acknowledged'}", remedy=RECEIVER)
        if path is not None and path.undelivered:
            return Finding(
                name, well=False, said="has not acknowledged an alarm for 100 s", remedy=f"See the incidents. {RECEIVER}"
            )
        if isinstance(receiver, Dc09Receiver) and receiver.transport == "udp":
            said = "acknowledges link tests" if path is not None and path.heard_ms else "UDP; nothing was acknowledged yet"
            return Finding(name, well=True, said=f"{host}:{port} {said}")
        _, writer = await asyncio.open_connection(host, port, ssl=tls or None)
        writer.close()
        return Finding(name, well=True, said=f"{host}:{port} takes connections")

    return check


def _path(settings: Settings, name: str) -> paths.Path | None:
    """How the path to a receiver is; None where nothing is known of it."""
    if not is_there(settings.journal_place):
        return None
    try:
        with closing(connect_readonly(settings.journal_place)) as connection:
            return next((one for one in paths.shown(connection) if one.name == name), None)
    except UNREADABLE:  # a journal of the release before; what is wrong with it otherwise, the journal's own check says
        return None
