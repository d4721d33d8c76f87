"""A real influxd 1.x in a private folder on free loopback ports, that can be stopped, killed and started again.

with Influxd(tmp_path) as server: ...; rows = server.query("SELECT ...")
"""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.certificates import ThrowawayAuthority
from tests.support.ports import free_port
from tests.support.services import require

START_LIMIT_S = 20.0
STOP_LIMIT_S = 10.0
POLL_S = 0.05
DATABASE = "iotcore"

CONFIG = """
reporting-enabled = false
bind-address = "127.0.0.1:{rpc}"

[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{http}"
  log-enabled = false
  auth-enabled = {auth}
{tls}
"""
TLS = """
  https-enabled = true
  https-certificate = "{cert}"
  https-private-key = "{key}"
"""


class Influxd:
    """One server; `url` stays the same over restarts. With `user` the server demands that name and `password`.

    With `authority` it serves TLS with a certificate of it.
    """

    def __init__(self, folder: Path, *, user: str = "", password: str = "", authority: ThrowawayAuthority | None = None) -> None:
        self.folder = folder / "influxd"
        self.http, self.rpc = free_port(), free_port()
        self.url = f"{'https' if authority else 'http'}://127.0.0.1:{self.http}"
        self._pair = authority.issue("influxd") if authority else None
        self._context = ssl.create_default_context(cafile=authority.ca_file) if authority else None
        self._user, self._password = user, password
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        auth = "true" if self._user else "false"
        tls = TLS.format(cert=self._pair.cert_file, key=self._pair.key_file) if self._pair else ""
        config = CONFIG.format(rpc=self.rpc, http=self.http, folder=self.folder, auth=auth, tls=tls)
        (self.folder / "influxdb.conf").write_text(config, encoding="utf-8")
        try:
            self.start()
            if self._user:
                self.query(f"CREATE USER \"{self._user}\" WITH PASSWORD '{self._password}' WITH ALL PRIVILEGES")
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until it answers."""
        program = str(require("influxd"))
        with (self.folder / "influxd.log").open("ab") as log:
            command = [program, "-config", str(self.folder / "influxdb.conf")]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            log_text = (self.folder / "influxd.log").read_text(errors="replace")
            assert self._process.poll() is None, f"influxd ended at start:\n{log_text}"
            try:
                with urllib.request.urlopen(f"{self.url}/ping", timeout=1.0, context=self._context):
                    return
            except OSError:
                assert time.monotonic() < deadline, f"influxd does not answer:\n{log_text}"
                time.sleep(POLL_S)

    def stop(self) -> None:
        """End it properly."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def send(self, number: signal.Signals) -> None:
        """A signal to the server, SIGSTOP for one."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def query(self, influxql: str, database: str = DATABASE) -> list[dict[str, Any]]:
        """The series of an InfluxQL query: each with name, perhaps tags, columns and values. An error of the server raises."""
        form = urllib.parse.urlencode({"db": database, "q": influxql, "epoch": "ns"})
        who = urllib.parse.urlencode({"u": self._user, "p": self._password})
        try:
            with urllib.request.urlopen(
                f"{self.url}/query?{who}", data=form.encode(), timeout=20.0, context=self._context
            ) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{influxql}: {error.read().decode(errors='replace')}") from error
        (result,) = answer["results"]
        assert "error" not in result, f"{influxql}: {result['error']}"
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    def count(self, measurement: str, field: str = "quality") -> int:
        """How many points of `measurement` have `field`; 0 while there is no such database."""
        found = self.query(f'SELECT count("{field}") FROM "{measurement}"') if self.databases() else []
        return int(found[0]["values"][0][1]) if found else 0

    def writes(self) -> int:
        """How many times lines were sent to it since it started."""
        with urllib.request.urlopen(f"{self.url}/debug/vars", timeout=5.0, context=self._context) as response:
            said = json.load(response)
        return int(
            next(part["values"]["writeReq"] for part in said.values() if isinstance(part, dict) and part.get("name") == "httpd")
        )

    def databases(self) -> set[str]:
        """The databases that clients have created."""
        found = self.query("SHOW DATABASES")
        return {value[0] for value in found[0].get("values", [])} - {"_internal"}
