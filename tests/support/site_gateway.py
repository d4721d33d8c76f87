"""A gateway at a site, as its users run it: `iotcore run modbus` in a folder of its own, with settings, units and tokens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iotcore.clock import SystemClock
from iotcore.process.serve import beats
from iotcore.specs.load import parse, shipped_folder
from tests.support import commands
from tests.support.platform import Platform

STOP_LIMIT_S = 15.0
POLLS = 3  # a gateway that has polled so often is up
PANEL = "tiny-panel"
PANEL_SPEC = """
model: tiny-panel
vendor: ours
title: A panel with two zones
device_class: fire_panel
protocol: modbus
source: made for this test
verified: made for this test
interval_s: 2
modbus: {timeout_s: 0.5}
points:
  alarm: {kind: bool, lane: fire, poll_s: 0.2, modbus: {table: discrete, address: 0, type: bit}}
  zone_2: {kind: bool, lane: fire, poll_s: 0.2, modbus: {table: discrete, address: 1, type: bit}}
  battery: {unit: "%", range: [0, 100], lane: bulk, poll_s: 1, modbus: {table: holding, address: 0, type: uint16}}
"""
PANEL_DEVICE = parse(PANEL_SPEC.encode(), f"{PANEL}.yaml")


def specs_with_panel(folder: Path) -> Path:
    """A folder of all shipped specs and the panel."""
    specs = folder / "specs"
    shutil.copytree(shipped_folder(), specs, ignore=shutil.ignore_patterns("*.json"))
    (specs / f"{PANEL}.yaml").write_text(PANEL_SPEC, encoding="utf-8")
    return specs


class SiteGateway:
    """One gateway. `units` are rows of its units file; `start`, `kill` and `stop` may be called again and again."""

    def __init__(self, folder: Path, platform: Platform, gateway: str, units: Sequence[dict[str, Any]], **tokens: str) -> None:
        self.gateway = gateway
        self.folder = folder / gateway
        self.data = self.folder / "data"
        self.config = self.folder / "iotcore.toml"
        self._log = self.folder / "gateway.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.folder.mkdir(parents=True)
        (self.folder / "units.yaml").write_text(json.dumps({"units": list(units)}), encoding="utf-8")  # JSON is YAML
        lines = [
            f"data = {json.dumps(str(self.data))}",
            f"specs = {json.dumps(platform.settings['specs'])}",
            "modbus_interval_s = 1.0",
            f'[brokers.fire]\nport = {platform.fire_port}\nrun = "external"',
            f'[brokers.field]\nport = {platform.field_port}\nrun = "external"',
            "[gateway]",
            f'id = "{gateway}"',
            f"units = {json.dumps(str(self.folder / 'units.yaml'))}",
            f'est_url = "https://127.0.0.1:{platform.est_port}"',
            f"trust = {json.dumps(str(platform.data / 'certs' / 'service-root.pem'))}",
            *(f"{name} = {json.dumps(token)}" for name, token in tokens.items()),
        ]
        self.config.write_text("\n".join([*lines, ""]), encoding="utf-8")

    async def start(self) -> None:
        """`iotcore run modbus`, until it beats."""
        command = [sys.executable, "-m", "iotcore", "run", "modbus", "--config", str(self.config)]
        with self._log.open("ab") as log:
            self._process = await asyncio.to_thread(subprocess.Popen, command, stdout=log, stderr=log)

    async def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        await asyncio.to_thread(self._process.wait)

    async def stop(self) -> None:
        """SIGTERM; it must end in time."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            await asyncio.to_thread(self._process.wait, STOP_LIMIT_S)

    def said(self) -> dict[str, Any]:
        """What it said of itself lately; nothing while it does not live, or has not said anything yet."""
        said = beats(self.data, SystemClock()).get("modbus", {})
        return said if self._process is not None and said.get("pid") == self._process.pid else {}

    def up(self) -> bool:
        """Whether it is connected and has polled."""
        said = self.said()
        return bool(said.get("connected")) and said.get("polls", 0) > POLLS

    def receipted(self) -> bool:
        """Whether it is up and nothing waits for a receipt."""
        return self.up() and self.said().get("kept") == 0

    async def doctor(self) -> dict[str, bool]:
        """What the doctor on the gateway says of each thing."""
        done = await asyncio.to_thread(commands.run, "doctor", "-o", "json", "--config", self.config)
        return {one["name"]: one["well"] for one in json.loads(done.stdout)}

    def rows(self, file: str, query: str) -> list[tuple[Any, ...]]:
        """What one of its outboxes holds; it must be stopped, for it owns its files alone."""
        with contextlib.closing(sqlite3.connect(self.data / file)) as connection:
            return [tuple(row) for row in connection.execute(query)]

    def log(self) -> str:
        """The last that it said."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-4000:] if self._log.exists() else ""
