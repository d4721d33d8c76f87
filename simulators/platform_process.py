"""A platform of one's own to test against: `iotcore up` in a folder, on free ports, with an alarm receiving centre at its end.

Driven as an outsider does it: the command line and its JSON, the settings file, and the files that the operations page lists.
Nothing here imports the platform. It works for whoever has installed iotcore; without Mosquitto the embedded brokers serve.

    simulated devices ──► iotcore up (brokers, fire, telemetry, modbus, web, keeper) ──► receiving centre (this process)
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from iotcore.errors import EnrolmentError, IotError, StartError
from iotcore.wire.arrival import Endpoint
from simulators.arc_receiver import ArcReceiver, Received
from simulators.background import Background
from simulators.enrol import Identity, enrol

PARTS = ("fire", "telemetry", "modbus", "web", "keeper")
SBIN = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")  # not on every user's PATH
ARC_KEY = "0123456789ABCDEF"  # of a receiving centre on loopback
START_LIMIT_S = 60.0
STOP_LIMIT_S = 30.0
COMMAND_LIMIT_S = 60.0
POLL_S = 0.02
ALARM_CODE = "FA"  # SIA DC-03: fire alarm
TAIL = 4_000  # characters of the platform's log in an error
GATEWAY, GATEWAY_MODEL = "modbus-1", "iotcore-modbus-gateway"


class NotInTime(AssertionError, IotError):
    """What a test waited for did not happen in its time."""


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident as `iotcore incidents -o json` tells it. `story` is all of it; times are ms UTC, latencies ms."""

    incident: str
    premises: str
    device: str
    rule: str
    state: str
    latencies_ms: Mapping[str, float]
    story: Mapping[str, Any]

    @property
    def latency_ms(self) -> float:
        """From the detector's time stamp to the receiving centre's acknowledgement.

        Raises:
            NotInTime: no centre has acknowledged it yet.
        """
        try:
            return self.latencies_ms["detector_to_receiver_acknowledged"]
        except KeyError:
            raise NotInTime(f"no receiver has acknowledged {self.incident} yet") from None


class PlatformProcess:
    """A context manager. `settings` are merged into the settings file; the folder holds everything."""

    def __init__(self, folder: Path, background: Background, settings: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.config = folder / "iotcore.toml"
        self.centre = ArcReceiver(key=ARC_KEY)
        self.settings: dict[str, Any] = {}
        self._background = background
        self._asked = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "iotcore.log"
        self._handed: set[str] = set()  # incidents that `wait_for_incident` has returned
        self._accounts: dict[str, str] = {}  # of the premises that were registered here
        self._premises: dict[str, str] = {}  # of the devices that were registered here

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._background.enter(self.centre)
        self.settings = _merged(self._defaults(), self._asked)
        self.config.write_text(_toml(self.settings), encoding="utf-8")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def mqtt(self) -> Literal["5", "3.1.1"]:
        """The protocol that the brokers speak: the embedded ones know 3.1.1 only."""
        return "5" if self.settings["brokers"]["fire"]["run"] == "mosquitto" else "3.1.1"

    @property
    def url(self) -> str:
        """The page."""
        return f"http://127.0.0.1:{self.settings['web']['port']}"

    @property
    def est_url(self) -> str:
        """Where devices enrol (RFC 7030)."""
        return f"https://127.0.0.1:{self.settings['web']['est_port']}"

    @property
    def trust(self) -> Path:
        """The anchor that a device is delivered with: whom it trusts."""
        return self.data / "certs" / "service-root.pem"

    def broker(self, name: Literal["fire", "field"]) -> tuple[str, int]:
        """Host and port of a broker."""
        return "127.0.0.1", int(self.settings["brokers"][name]["port"])

    def start(self) -> None:
        """`iotcore up`; returns when every part runs and has its broker.

        Raises:
            StartError: it ended, or was not up in time; with what it said last.
        """
        started_ms = time.time() * 1000.0
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "iotcore", "up", "--config", str(self.config)]
            # of a session of its own: a Ctrl-C for the test is not meant for it, and the end takes all of it
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
        deadline = time.monotonic() + START_LIMIT_S
        while not all(self._beats(part, started_ms) for part in PARTS):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise StartError("The platform did not start", f"It said:\n{self.log()}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End it and everything that it runs; does nothing when it has ended."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def log(self) -> str:
        """The last that the platform said."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-TAIL:] if self._log.exists() else ""

    def command(self, *arguments: str) -> str:
        """Run `iotcore …` against this platform to its end; what it printed.

        Raises:
            StartError: it ended with another code than 0; with what it said.
        """
        command = [sys.executable, "-m", "iotcore", *arguments, "--config", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False)  # noqa: S603
        if done.returncode != 0:
            raise StartError(f"iotcore {' '.join(arguments)} ended with {done.returncode}", f"{done.stdout}{done.stderr}".strip())
        return done.stdout.strip()

    def register(self, document: Mapping[str, Any]) -> None:
        """Add what a city document holds: premises, zones, devices. What is there already stays."""
        self._accounts |= {str(one["id"]): str(one["account"]) for one in document.get("premises", ())}
        self._premises |= {str(one["id"]): str(one.get("premises", "")) for one in document.get("devices", ())}
        path = self.folder / "city.json"
        path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        self.command("import", str(path))

    def tokens(self, devices: Iterable[str]) -> dict[str, str]:
        """A one-time enrolment token for each."""
        names = list(devices)
        return dict(zip(names, self.command("token", "create", *names).split(), strict=True)) if names else {}

    def enrol(self, device: str) -> Identity:
        """Key, CSR, token, certificate: what a device does at its first start; what was got before is kept."""
        return self._background.call(self._enrolled(device, self.tokens([device])[device]))

    def endpoint(self, device: str, domain: str) -> Endpoint:
        """The broker of a domain, with the identity of an enrolled device."""
        return self.enrol(device).endpoint(*self.broker("fire" if domain == "fire" else "field"))

    @property
    def https(self) -> tuple[str, int] | None:
        """The alternate path of fire devices, where `fire.https_port` of the settings opens it."""
        port = int(self.settings.get("fire", {}).get("https_port", 0))
        return ("127.0.0.1", port) if port else None

    async def _enrolled(self, device: str, token: str) -> Identity:
        try:
            return await enrol(self.est_url, token, device, self.trust, self.folder / "devices")
        except EnrolmentError as error:
            raise StartError(f"{device} could not enrol: {error}", f"The platform said:\n{self.log()}") from error

    def incidents(self) -> list[Incident]:
        """All incidents, newest first."""
        return [_incident(story) for story in json.loads(self.command("incidents", "-o", "json"))]

    def devices(self) -> list[dict[str, Any]]:
        """All registered devices."""
        found: list[dict[str, Any]] = json.loads(self.command("devices", "-o", "json"))
        return found

    def quarantine(self) -> list[dict[str, Any]]:
        """What was refused, and why, newest first."""
        found: list[dict[str, Any]] = json.loads(self.command("quarantine", "list", "-o", "json"))
        return found

    def received(self) -> list[Received]:
        """Every event that the receiving centre took, oldest first."""
        return self._background.run(lambda: list(self.centre.received))

    def wait_for_incident(self, *, device: str = "", premises: str = "", within_s: float = 10.0) -> Incident:
        """The first fire that the receiving centre acknowledges for a premises (or a device's), and that was not returned before.

        Raises:
            NotInTime: there was none in time; with what the centre has and what the platform said.
        """
        place = premises or self._premises.get(device, "")
        account = self._accounts.get(place, "")
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            for event in self.received():
                if event.code == ALARM_CODE and event.incident not in self._handed and account in ("", event.account):
                    self._handed.add(event.incident)
                    return self._story(event.incident)
            time.sleep(POLL_S)
        there = [f"{event.code} {event.account} {event.text}" for event in self.received()]
        raise NotInTime(f"no fire at {place or 'any premises'} within {within_s:g} s; the centre has {there}\n{self.log()}")

    def acknowledge(self, incident: str) -> None:
        """Take an incident, as a person would."""
        self.command("acknowledge", incident)

    def reset(self, incident: str) -> None:
        """Close its episode: the next fire there is a new incident."""
        self.command("reset", incident)

    def until(self, condition: Callable[[], bool], within_s: float, what: str) -> None:
        """Wait for a condition.

        Raises:
            NotInTime: it did not come true.
        """
        deadline = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline:
                raise NotInTime(f"not within {within_s:g} s: {what}\n{self.log()}")
            time.sleep(POLL_S)

    def _story(self, incident: str) -> Incident:
        """Its timeline, once the platform has noted the acknowledgement too."""
        deadline = time.monotonic() + COMMAND_LIMIT_S
        while time.monotonic() < deadline:
            for found in self.incidents():
                if found.incident == incident and "detector_to_receiver_acknowledged" in found.latencies_ms:
                    return found
        raise NotInTime(f"the platform never noted that {incident} was acknowledged\n{self.log()}")

    def _beats(self, part: str, since_ms: float) -> bool:
        try:
            said = json.loads((self.data / "run" / f"{part}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return float(said["at_ms"]) > since_ms and bool(said.get("connected", True))

    def _defaults(self) -> dict[str, Any]:
        fire, field, web, est = _free_ports(4)
        run = "mosquitto" if any(shutil.which("mosquitto", path=path) for path in (None, *SBIN)) else "amqtt"
        centre = {"kind": "sia_dc09", "name": "centre", "host": "127.0.0.1", "port": self.centre.port, "key": ARC_KEY}
        return {
            "data": str(self.data),
            "modbus_interval_s": 1.0,
            "modbus_gateway": GATEWAY,
            "brokers": {"fire": {"port": fire, "run": run}, "field": {"port": field, "run": run}},
            "web": {"port": web, "est_port": est},
            "metrics": {"port": 0},  # several platforms run on one machine
            "receivers": [centre],
        }


def _incident(story: Mapping[str, Any]) -> Incident:
    notice = story["notice"]
    return Incident(
        story["incident"], story["premises"], notice["device"], notice["rule"], story["state"], story["latencies_ms"], story
    )


def _merged(ours: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """`asked` wins, table by table; further receivers are added, so that the centre stays."""
    merged = dict(ours)
    for key, value in asked.items():
        before = merged.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[key] = _merged(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            merged[key] = [*before, *value]
        else:
            merged[key] = value
    return merged


def _toml(document: Mapping[str, Any], path: str = "") -> str:
    """A settings document as TOML: scalars and lists of them first, then tables, then lists of tables."""
    lines, later = [], []
    for key, value in document.items():
        name = f"{path}{key}"
        if isinstance(value, Mapping):
            later.append(f"[{name}]\n{_toml(value, f'{name}.')}")
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            later += [f"[[{name}]]\n{_toml(item, f'{name}.')}" for item in value]
        else:
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}\n")
    return "".join([*lines, *later])


def _free_ports(count: int) -> list[int]:
    """So many ports of loopback that nobody listened on a moment ago."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
