"""The whole platform as its users run it: `iotcore up` in a folder of its own, on free ports, against real servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

import aiohttp
import psutil

from iotcore.clock import SystemClock
from iotcore.journal.database import connect_readonly
from iotcore.process.serve import beats
from iotcore.process.workers import parts
from iotcore.settings import check
from iotcore.wire.arrival import Endpoint
from simulators.enrol import enrol
from tests.support import commands
from tests.support.ports import free_port

PARTS = ("fire", "telemetry", "modbus", "web", "keeper")
START_LIMIT_S = 40.0
ARC_KEY = "0123456789ABCDEF"
SECRET = "webhook-secret-of-this-test"


class Platform:
    """Start with `start`, always end with `stop`; both may be called again."""

    def __init__(
        self, folder: Path, *, arc_port: int, cad_url: str = "", store: dict[str, Any] | None = None, brokers: str = "mosquitto"
    ) -> None:
        self.folder = folder
        self.mqtt: Literal["5", "3.1.1"] = "3.1.1" if brokers == "amqtt" else "5"  # all that the embedded broker speaks
        self.data = folder / "data"
        self.config = folder / "iotcore.toml"
        self.fire_port, self.field_port, self.web_port, self.est_port = (free_port() for _ in range(4))
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "up.log"
        self._api_token = ""
        self.settings: dict[str, Any] = {
            "data": str(self.data),
            "modbus_interval_s": 1.0,
            "brokers": {"fire": {"port": self.fire_port, "run": brokers}, "field": {"port": self.field_port, "run": brokers}},
            "store": store or {"kind": "embedded"},
            "web": {"port": self.web_port, "est_port": self.est_port},
            "metrics": {"port": 0},  # several platforms run on one machine; a test that asks for them says where
            "receivers": [
                {
                    "kind": "sia_dc09",
                    "name": "arc",
                    "host": "127.0.0.1",
                    "port": arc_port,
                    "key": ARC_KEY,
                    "account": "1001",
                    "reply_timeout_s": 2.0,
                }
            ],
        }
        if cad_url:
            self.settings["receivers"].append(
                {
                    "kind": "cad_webhook",
                    "name": "cad",
                    "url": cad_url,
                    "secret": SECRET,
                    "allow_http": True,
                    "allow_private": True,
                }
            )
        self.configure()

    def configure(self, **more: Any) -> None:
        """Write the settings file, with `more` at its top; the next start reads it."""
        self.settings |= more
        self.config.write_text(_toml(self.settings), encoding="utf-8")

    def iotcore(self, *arguments: str, code: int = 0) -> str:
        """Run the command line to its end; its output. It must end with exit code `code`."""
        done = commands.run(*arguments, "--config", self.config)
        assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    async def said(self, *arguments: str, code: int = 0) -> Any:
        """What the command line prints as JSON; our own servers in this process go on meanwhile."""
        return json.loads(await asyncio.to_thread(self.iotcore, *arguments, "-o", "json", code=code))

    def import_city(self, document: dict[str, Any]) -> None:
        """Register premises, zones and devices."""
        path = self.folder / "city.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        self.iotcore("import", str(path))

    async def start(self, limit_s: float = START_LIMIT_S) -> None:
        """`iotcore up`, and wait until every part says that it is there and connected."""
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "iotcore", "up", "--config", str(self.config)]
            self._process = await asyncio.to_thread(subprocess.Popen, command, stdout=log, stderr=log)
        started_ms = SystemClock().wall_ms()
        await self.until(lambda: self.ready(since_ms=started_ms), limit_s, "the platform is up")

    @property
    def parts(self) -> tuple[str, ...]:
        """The processes that its settings ask for, but the brokers."""
        return parts(check(json.loads(json.dumps(self.settings)), "a test"))

    def ready(self, *, since_ms: float = 0.0) -> bool:
        """Whether all parts run and are connected, by what they have said since then."""
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        said = beats(self.data, SystemClock())
        return all(part in said and said[part]["at_ms"] > since_ms and said[part].get("connected", True) for part in self.parts)

    def beating(self, part: str) -> bool:
        """Whether a part has said lately that it is alive."""
        return part in beats(self.data, SystemClock())

    async def stop(self) -> None:
        """SIGTERM; everything must be gone in time."""
        if self._process is None or self._process.poll() is not None:
            return
        children = psutil.Process(self._process.pid).children(recursive=True)
        self._process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(self._process.wait, 20)
        _, alive = await asyncio.to_thread(psutil.wait_procs, children, 10)
        for child in alive:
            child.kill()
        assert not alive, f"left behind: {[child.name() for child in alive]}"
        assert "did not end in" not in self._log.read_text(encoding="utf-8", errors="replace"), self.log()

    def pid(self, part: str) -> int:
        """The process of a part, of a Mosquitto ("mosquitto fire"), or of the part that runs it ("broker fire")."""
        kind, _, name = part.partition(" ")
        if name:
            mosquitto = int((self.data / "broker" / name / "mosquitto.pid").read_text())
            return mosquitto if kind == "mosquitto" else psutil.Process(mosquitto).ppid()
        return int(beats(self.data, SystemClock())[part]["pid"])

    async def kill(self, *parts: str) -> float:
        """kill -9 of parts at once; wait until others run in their place and all is connected again; how long it took, s."""
        old, killed_s = {part: self.pid(part) for part in parts}, time.monotonic()
        for pid in old.values():
            os.kill(pid, signal.SIGKILL)
        for part, pid in old.items():
            await self.until(lambda part=part, pid=pid: self._replaced(part, pid), START_LIMIT_S, f"{part} is back")  # type: ignore[misc]
        back_ms = SystemClock().wall_ms()
        await self.until(lambda: self.ready(since_ms=back_ms), START_LIMIT_S, f"all is connected after {parts} were killed")
        return time.monotonic() - killed_s

    def _replaced(self, part: str, old: int) -> bool:
        try:
            return self.pid(part) != old and psutil.pid_exists(self.pid(part))
        except (KeyError, FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return False

    async def enrol(self, device: str, domain: str) -> Endpoint:
        """A device gets its certificate as it would in the field: token, key, CSR, EST."""
        token = await asyncio.to_thread(self.iotcore, "token", "create", device)
        service = self.data / "certs" / "service-root.pem"
        identity = await enrol(f"https://127.0.0.1:{self.est_port}", token, device, service, self.folder / "devices")
        return identity.endpoint("127.0.0.1", self.fire_port if domain == "fire" else self.field_port)

    async def page(self, path: str = "/") -> str:
        """A page as somebody sees it who is signed in, in English."""
        address = f"http://127.0.0.1:{self.web_port}{path}"
        headers = {"Authorization": f"Bearer {await asyncio.to_thread(self.api_token)}", "Accept": "text/html"}
        async with (
            aiohttp.ClientSession(cookies={"language": "en"}, headers=headers) as browser,
            browser.get(address) as response,
        ):
            assert response.status == HTTPStatus.OK, await response.text()
            return await response.text()

    def api_token(self) -> str:
        """A token of a user who sees everything, made at the first call."""
        if not self._api_token:
            self.iotcore("user", "add", "observer", "--role", "viewer")
            self._api_token = self.iotcore("apitoken", "create", "observer", "test", "--role", "viewer")
        return self._api_token

    def rows(self, file: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What one of the platform's own SQLite files holds; nothing while it is not there."""
        path = self.data / file
        if not path.exists():
            return []
        with contextlib.closing(connect_readonly(path)) as connection:
            return [tuple(row) for row in connection.execute(query, values)]

    def now_ms(self) -> float:
        """The wall clock, ms UTC."""
        return SystemClock().wall_ms()

    def log(self) -> str:
        """The last that the platform said."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-6000:]

    async def until(self, condition: Callable[[], bool], limit_s: float, what: str) -> None:
        """Wait for a condition; fail with the platform's own words."""
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, f"not in {limit_s:.0f} s: {what}\n{self.log()}"
            await asyncio.sleep(0.05)


def _toml(document: dict[str, Any]) -> str:
    """A settings document as TOML: tables of scalars, one level of nesting, and the list of receivers."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in document.items() if not isinstance(value, dict | list)]
    for key, value in document.items():
        if isinstance(value, dict):
            lines += _table(key, value)
        elif isinstance(value, list):
            for item in value:
                lines += [f"[[{key}]]", *(f"{name} = {_inline(entry)}" for name, entry in item.items())]
    return "\n".join([*lines, ""])


def _inline(value: Any) -> str:
    """A value of a receiver: text, a number, a list of these, or a table of them."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(entry)}" for key, entry in value.items()) + "}"
    return json.dumps(value)


def _table(name: str, table: dict[str, Any]) -> list[str]:
    lines = [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict))]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += _table(f"{name}.{key}", value)
    return lines
