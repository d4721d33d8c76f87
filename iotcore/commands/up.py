"""iotcore up: the whole platform on one machine, each part a process of its own, kept alive together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from pathlib import Path

from iotcore.app import common, first
from iotcore.clock import SystemClock
from iotcore.errors import StartError
from iotcore.process import home
from iotcore.process.replicas import replicas
from iotcore.process.supervisor import STOP_TIMEOUT_S, Supervisor, command
from iotcore.process.workers import parts, workers
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import choose
from iotcore.settings import Settings

log = logging.getLogger(__name__)

BROKER_LIMIT_S = 20.0
STOP_LIMIT_S = 3 * STOP_TIMEOUT_S  # two stages, each with its own timeout, and some


def brokers_to_run(settings: Settings) -> list[str]:
    """The broker processes that are ours to run."""
    return [f"broker-{name.value}" for name in BrokerName if choose(home.broker_settings(settings, name).run) != "external"]


def supervisor(settings: Settings, config: Path) -> Supervisor:
    """A supervisor for all processes of this installation, brokers first; nothing is started yet."""
    words = {name: [name] for name in (*brokers_to_run(settings), *parts(settings))}
    words |= {one.name: ["telemetry", "--worker", str(one.number)] for one in workers(settings)}
    words |= {one.name: ["fire", "--worker", str(one.number)] for one in replicas(settings)}
    return Supervisor({name: command("run", *said, "--config", str(config.absolute())) for name, said in words.items()})


def check_ports(settings: Settings) -> None:
    """Every port that we are going to listen on.

    Raises:
        StartError: naming the port that somebody else has, and the setting to change.
    """
    ours = {("web.port", settings.web.host, settings.web.port), ("web.est_port", settings.web.est_host, settings.web.est_port)}
    if settings.web.crl_port:
        ours.add(("web.crl_port", settings.web.est_host, settings.web.crl_port))
    if settings.fire.https_port:
        ours.add(("fire.https_port", settings.fire.https_host, settings.fire.https_port))
    for name in BrokerName:
        broker = home.broker_settings(settings, name)
        if broker.run != "external":
            ours.add((f"brokers.{name.value}.port", broker.address, broker.port))
            if broker.password_port:
                ours.add((f"brokers.{name.value}.password_port", broker.address, broker.password_port))
    for key, host, port in sorted(ours):
        check_port(host, port, f"Stop what listens there, or choose another port ({key} in the settings).")


def check_port(host: str, port: int, remedy: str) -> None:
    """Whether we can listen there.

    Raises:
        StartError: with the reason and `remedy`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartError(f"Port {port} on {host} cannot be used: {error.strerror}", remedy) from error
        except OverflowError as error:
            raise StartError(f"There is no port {port}", remedy) from error


async def up(settings: Settings, config: Path) -> None:
    """Run everything until cancelled; leaves no process."""
    common.check(settings)
    with home.claimed(settings.folder):
        check_ports(settings)
        home.prepare(settings, SystemClock())
        running = supervisor(settings, config)
        telling = asyncio.create_task(first.tell(settings, SystemClock().wall_ms(), sys.stdout))
        try:
            await start(running, settings)
            log.info("iotcore is up: http://%s:%d", settings.web.host, settings.web.port)
            await asyncio.Event().wait()
        finally:
            telling.cancel()
            await running.stop()


async def start(running: Supervisor, settings: Settings) -> None:
    """Brokers first, then the rest: a lane that meets its broker at once loses no time in backing off."""
    brokers = brokers_to_run(settings)
    if brokers:
        running.start(*brokers)
        for name in BrokerName:
            broker = home.broker_settings(settings, name)
            await listens(broker.host, broker.port, f"the {name.value} broker")
    running.start(*parts(settings))


async def listens(host: str, port: int, what: str) -> None:
    """Wait until somebody accepts connections there.

    Raises:
        StartError: nobody did in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + BROKER_LIMIT_S
    while loop.time() < deadline:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return
        await asyncio.sleep(0.05)
    raise StartError(f"{what} does not listen on {host}:{port} after {BROKER_LIMIT_S:.0f} s", "See what it said above.")
