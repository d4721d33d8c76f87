"""iotcore demo: the whole platform on embedded defaults, a simulated city around it, and one premises that burns.

    this process      simulated city, alarm receiving centre, supervisor, timeline
    its children      brokers, fire, telemetry, modbus, web, keeper: exactly what `iotcore up` runs

Everything it keeps lies in one folder; the next start goes on from there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
from rich.console import Console

from iotcore.app import common, first
from iotcore.clock import SystemClock
from iotcore.commands import up
from iotcore.commands.demo_screen import Screen, Steps
from iotcore.commands.playground import Measured, measured_from
from iotcore.errors import EnrolmentError, StartError
from iotcore.journal.database import connect_readonly, is_there
from iotcore.journal.timeline import Timeline, incidents
from iotcore.process import home
from iotcore.process.serve import beats
from iotcore.process.supervisor import Supervisor
from iotcore.process.workers import parts
from iotcore.provision.broker import choose
from iotcore.provision.files import make_folder
from iotcore.registry.accounts import accounts
from iotcore.registry.rights import Grant, Role
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import Settings, load
from simulators import city
from simulators.arc_receiver import ArcReceiver
from simulators.fire_growth import Fire, Growth
from simulators.scenario import Scenario
from simulators.town import Town

SEED = 1
ARC_KEY = "demo-key-16-char"  # of a simulated receiver on loopback
BEFORE_FIRE_S = 5.0
FIRE_LASTS_S = 180.0
START_LIMIT_S = 60.0
TOKEN_TTL_S = 600.0
VISITOR = "demo"
LINK_TTL_S = 86_400.0
QUIET_AFTER_S = 3.0  # with --once: time in which a second incident or a second alarm would show
ALARM_LIMIT_S = 120.0  # with --once: a t² fire that nobody reports by then is a failure
LOUD_BROKERS = "EMBEDDED BROKERS: NOT FOR REAL ALARMS (install mosquitto for the real ones)"

CONFIG = """# Written by `iotcore demo` at each start; use `iotcore --config FILE` with it while the demo runs.
data = {data}
modbus_interval_s = 5.0

[brokers.fire]
port = {fire}
run = "{run}"

[brokers.field]
port = {field}
run = "{run}"

[fire]
https_port = {https}

[web]
port = {web}
est_port = {est}

[metrics]
port = 0

[[receivers]]
kind = "sia_dc09"
name = "fire-centre"
host = "127.0.0.1"
port = {arc}
key = "{key}"
"""


@dataclass(slots=True)
class Demo:
    """What the command line asked for."""

    data: Path
    once: bool
    as_json: bool
    port: int
    brokers: Literal["auto", "mosquitto", "amqtt"]
    growth: Growth
    measured: Measured | None
    link: str = ""  # to the page, signed in
    told: int = 0  # the signal that ended it
    stopping: bool = False

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> Demo:
        """From the command line's options; a file to replay is read and checked first."""
        measured = measured_from(options, options.replay) if options.replay else None
        return cls(
            options.data if isinstance(options.data, Path) else Path(options.data),
            options.once,
            options.json,
            options.port,
            options.brokers,
            cast("Growth", options.growth),
            measured,
        )

    def run(self) -> int:
        """Run until Ctrl-C, or with --once until the fire is over; the exit code."""
        up.check_port("127.0.0.1", self.port, "Stop what listens there, or choose another: make demo PORT=8081.")
        screen = Screen(Console(stderr=self.as_json))
        with home.claimed(self.data), asyncio.Runner() as runner:
            _log_to(make_folder(self.data / "log") / "iotcore.log")
            return runner.run(self._until_told(screen))

    async def _until_told(self, screen: Screen) -> int:
        task = asyncio.ensure_future(self._main(screen))
        loop = asyncio.get_running_loop()

        def stop(number: int) -> None:
            self.told = number
            if not self.stopping:  # an impatient second Ctrl-C must not interrupt the stopping
                screen.say("Stopping everything …")
                task.cancel()

        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, stop, name)
        try:
            return await task
        except asyncio.CancelledError:
            return 128 + self.told if self.once else 0

    async def _main(self, screen: Screen) -> int:
        async with AsyncExitStack() as stack:
            try:
                return await self._story(screen, stack)
            finally:
                self.stopping = True

    async def _story(self, screen: Screen, stack: AsyncExitStack) -> int:
        arc = await stack.enter_async_context(ArcReceiver(key=ARC_KEY))
        settings = self._settings(arc.port)
        if choose(self.brokers) == "amqtt":
            screen.loud(LOUD_BROKERS)
        with screen.steps() as steps:
            town = await self._set_up(settings, stack, steps)
        living = asyncio.create_task(town.live())
        stack.callback(living.cancel)
        screen.up(self.link, town.connected, city.AIR_STATIONS + city.WATER_STATIONS)
        watch = _Watch(settings, arc, screen)
        burning = asyncio.create_task(self._burn(town, watch))
        stack.callback(burning.cancel)
        if self.once:
            return await self._one_fire(watch)
        screen.say(f"Ctrl-C stops everything; the next start goes on from here.\nLog: {self.data / 'log' / 'iotcore.log'}")
        await watch.for_ever()
        return 0

    def _settings(self, arc_port: int) -> Settings:
        """Write this start's settings file: free ports for everything but the page."""
        ports = _free_ports(4)
        path = self.data / "iotcore.toml"
        text = CONFIG.format(
            data=json.dumps(str(self.data.absolute())),
            fire=ports[0],
            field=ports[1],
            est=ports[2],
            https=ports[3],
            run=self.brokers,
            web=self.port,
            arc=arc_port,
            key=ARC_KEY,
        )
        path.write_text(text, encoding="utf-8")
        return load(path, {})

    async def _set_up(self, settings: Settings, stack: AsyncExitStack, steps: Steps) -> Town[Scenario]:
        specs = common.specs_of(settings)
        common.check(settings)
        clock = SystemClock()
        with steps.step("certificate authorities, broker homes"):
            await asyncio.to_thread(home.prepare, settings, clock)
        document = city.document(SEED)
        town = Town(document, specs, Scenario(document, SEED), self.data / "devices")
        with steps.step("Modbus stations"):
            await stack.enter_async_context(town)
        registry = await stack.enter_async_context(await open_registry(settings.registry_url, clock))
        with steps.step("registry: premises, zones, devices"):
            await registry.import_city(city.document(SEED, town.connection), specs, "demo")
            self.link = await _link(settings, registry)
        running = up.supervisor(settings, self.data / "iotcore.toml")
        stack.push_async_callback(running.stop)
        with steps.step("brokers and processes", len(parts(settings))) as step:
            await up.start(running, settings)
            await _until_ready(settings, running, step.at)
        with steps.step("devices enrol (EST, one-time tokens)", len(town.mqtt_devices)) as step:
            await self._enrol(settings, town, registry, step.advance)
        with steps.step("devices connect (mTLS)", len(town.mqtt_devices)) as step:
            fire, field = settings.brokers.fire, settings.brokers.field
            version: Literal["5", "3.1.1"] = "3.1.1" if choose(self.brokers) == "amqtt" else "5"
            alternate = home.fire_https(settings)
            await town.connect((fire.host, fire.port), (field.host, field.port), version, alternate=alternate)
            deadline = time.monotonic() + START_LIMIT_S
            while town.connected < len(town.mqtt_devices):
                step.at(town.connected)
                if time.monotonic() > deadline:
                    errors = {device.last_error for device in town.devices.values() if not device.connected}
                    raise StartError(f"Not every device could connect: {'; '.join(sorted(errors))}", "See the log.")
                await asyncio.sleep(0.05)
        return town

    async def _enrol(self, settings: Settings, town: Town[Scenario], registry: Registry, done: Callable[[], None]) -> None:
        async def token(device: str) -> str:
            return await registry.create_token(device, TOKEN_TTL_S, "demo")

        service = settings.folder / "certs" / "service-root.pem"
        try:
            await town.enrol(f"https://127.0.0.1:{settings.web.est_port}", service, token, done)
        except ExceptionGroup as group:  # of its workers; the first that was refused tells enough
            refused = group.subgroup(EnrolmentError)
            if refused is None:
                raise
            raise StartError(f"A device could not enrol: {refused.exceptions[0]}", "See the log.") from group

    async def _burn(self, town: Town[Scenario], watch: _Watch) -> None:
        """After a few seconds, set a premises on fire that has no open incident."""
        await asyncio.sleep(BEFORE_FIRE_S)
        if watch.quiet_detector() is None:
            watch.screen.say("Every premises has an open incident: reset one on the page, and it burns.")
        while (chosen := watch.quiet_detector()) is None:  # noqa: ASYNC110 - the journal is polled, as by all that follow it
            await asyncio.sleep(1.0)
        if self.measured is not None:
            watch.screen.say(f"A measured fire ({self.measured.name}) plays at {chosen['id']}, {chosen['premises']}.")
            await town.replay(chosen["id"], self.measured.samples, self.measured.speed)
            return
        watch.screen.say(f"A fire ({self.growth}, t²) starts at {chosen['premises']}.")
        town.scenario.ignite(chosen["premises"], time.time(), Fire(self.growth))
        await asyncio.sleep(FIRE_LASTS_S)
        town.scenario.burning = None

    async def _one_fire(self, watch: _Watch) -> int:
        played_s = self.measured.lasts_s if self.measured else 0.0
        story = await watch.one(BEFORE_FIRE_S + played_s + ALARM_LIMIT_S)
        if story is None:
            watch.screen.say("[bold red]No receiver acknowledged an incident in time.[/]")
            return 1
        await asyncio.sleep(QUIET_AFTER_S)
        opened, delivered = watch.opened(), watch.delivered()
        if self.as_json:
            said = {
                "incident": story.incident,
                "premises": story.premises,
                "moments_ms": dict(story.moments()),
                "latencies_ms": story.latencies_ms(),
                "incidents_opened": len(opened),
                "incidents_acknowledged_by_receiver": len(delivered),
                "notice": msgspec.to_builtins(story.notice),
            }
            Console().print_json(json.dumps(said, ensure_ascii=False))
        if opened == delivered == {story.incident}:
            return 0
        watch.screen.say(f"[bold red]Expected exactly one incident; opened {opened}, delivered {delivered}.[/]")
        return 1


class _Watch:
    """Follows the journal, as a dispatcher's screen would."""

    def __init__(self, settings: Settings, arc: ArcReceiver, screen: Screen) -> None:
        self.screen = screen
        self._journal = settings.journal_place
        self._arc = arc
        self._before = {one.incident for one in self.incidents()}
        self._shown: set[str] = set()
        self._taken: set[str] = set()

    def incidents(self) -> list[Timeline]:
        """All incidents of the journal, newest first."""
        if not is_there(self._journal):
            return []
        connection = connect_readonly(self._journal)
        try:
            return incidents(connection)
        finally:
            connection.close()

    def quiet_detector(self) -> dict[str, Any] | None:
        """The first detector of the city whose premises has no open incident."""
        burning = {one.premises for one in self.incidents() if one.state == "open"}
        detectors = (device for device in city.document(SEED)["devices"] if device["model"] == city.DETECTOR_MODEL)
        return next((device for device in detectors if device["premises"] not in burning), None)

    def opened(self) -> set[str]:
        """Incidents since this start."""
        return {one.incident for one in self.incidents()} - self._before

    def delivered(self) -> set[str]:
        """Incidents whose alarm the receiver has acknowledged since this start."""
        return {event.incident for event in self._arc.received if event.incident not in self._before}

    async def one(self, limit_s: float) -> Timeline | None:
        """The first incident that the receiver acknowledged."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            for story in self._look():
                return story
            await asyncio.sleep(0.05)
        return None

    async def for_ever(self) -> None:
        """Show each incident once its receiver has it, and each person who takes one."""
        while True:
            self._look()
            await asyncio.sleep(0.1)

    def _look(self) -> list[Timeline]:
        fresh = []
        for story in reversed(self.incidents()):
            if story.incident in self._before:
                continue
            if story.incident not in self._shown and story.delivered_ms is not None and story.durable_ms is not None:
                self._shown.add(story.incident)
                self.screen.timeline(story)
                fresh.append(story)
            if story.acknowledged_ms is not None and story.incident not in self._taken:
                self._taken.add(story.incident)
                waited_s = (story.acknowledged_ms - story.decided_ms) / 1000.0
                self.screen.say(f"      {story.incident} taken by {story.acknowledged_by} after {waited_s:.1f} s")
        return fresh


async def _link(settings: Settings, registry: Registry) -> str:
    """A link to the page for whoever looks at the demo: one use, an admin of this city."""
    people = accounts(registry.database, settings.people.session_idle_s, settings.people.session_s)
    if not await people.people.anybody():
        await people.people.add(VISITOR, [Grant(Role.ADMIN)], "demo")
    return await first.link(settings, people, VISITOR, LINK_TTL_S, "demo")


async def _until_ready(settings: Settings, running: Supervisor, at: Callable[[int], None]) -> None:
    clock = SystemClock()
    deadline = time.monotonic() + START_LIMIT_S
    wanted = parts(settings)
    while True:
        said = beats(settings.folder, clock)
        ready = [
            part
            for part in wanted
            if part in said and said[part]["pid"] in running.pids.values() and said[part].get("connected", True)
        ]
        at(len(ready))
        if len(ready) == len(wanted):
            return
        if time.monotonic() > deadline:
            missing = ", ".join(part for part in wanted if part not in ready)
            raise StartError(f"Not up after {START_LIMIT_S:.0f} s: {missing}", f"See {settings.folder / 'log' / 'iotcore.log'}.")
        await asyncio.sleep(0.05)


def _log_to(path: Path) -> None:
    """Everything that the platform says goes to one bounded file; the terminal is for the story."""
    keep = RotatingFileHandler(path, maxBytes=5_000_000, backupCount=2, encoding="utf-8")
    keep.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[keep], force=True)


def _free_ports(count: int) -> list[int]:
    """So many ports of loopback that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
