"""A real VictoriaMetrics on a free loopback port: it takes the v2 write API, but keeps only numbers, and milliseconds.

with Victoria(tmp_path) as server: ...; values = server.export('{__name__="air_station_pm10"}')
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.ports import free_port
from tests.support.services import require

START_LIMIT_S = 20.0
STOP_LIMIT_S = 10.0
POLL_S = 0.05


class Victoria:
    """One server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "victoria"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        program = str(require("victoria-metrics"))
        command = [program, f"-storageDataPath={self.folder}", f"-httpListenAddr=127.0.0.1:{self.port}", "-retentionPeriod=100y"]
        with (self.folder / "victoria.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._await_start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _await_start(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            said = (self.folder / "victoria.log").read_text(errors="replace")
            assert self._process.poll() is None, f"victoria-metrics ended at start:\n{said}"
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=1.0):
                    return
            except OSError:
                assert time.monotonic() < deadline, f"victoria-metrics does not answer:\n{said}"
                time.sleep(POLL_S)

    def stop(self) -> None:
        """End it."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def export(self, match: str) -> list[dict[str, Any]]:
        """The raw series that match: each with metric (labels), values and timestamps (ms)."""
        urllib.request.urlopen(f"{self.url}/internal/force_flush", timeout=5.0).close()  # make what was written searchable
        query = urllib.parse.urlencode({"match[]": match})
        with urllib.request.urlopen(f"{self.url}/api/v1/export?{query}", timeout=10.0) as response:
            return [json.loads(row) for row in response.read().splitlines()]
