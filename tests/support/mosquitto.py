"""A real Mosquitto on a free loopback port, with persistence, that can be killed and started again on the same port.

with Mosquitto(tmp_path) as broker: ...                               # plain, anonymous
with Mosquitto(tmp_path, tls=TlsFiles(ca, cert, key)) as broker: ...  # mTLS: the certificate's CN is the user name
"""

from __future__ import annotations

import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from iotcore.wire.arrival import Endpoint
from tests.support.ports import free_port
from tests.support.services import require

START_LIMIT_S = 10.0
STOP_LIMIT_S = 5.0
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of the broker: whom it trusts, and what it shows."""

    ca_file: Path
    cert_file: Path
    key_file: Path
    crl_file: Path | None = None


class Mosquitto:
    """One broker process in `folder`; `extra` are further lines of its configuration (acl_file, limits ...).

    `durable` saves the whole database after every change, so that a kill -9 loses at most one message; that makes thousands of
    queued messages very slow (each publish writes all of them again). Otherwise it saves once a second.
    """

    def __init__(
        self, folder: Path, *, tls: TlsFiles | None = None, extra: str = "", port: int = 0, durable: bool = True
    ) -> None:
        self.folder = folder / "mosquitto"
        self.port = port or free_port()
        self.tls = tls
        self.extra = extra
        self.durable = durable
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.configure()
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What the broker has said so far."""
        path = self.folder / "mosquitto.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def configure(self) -> None:
        """Write the configuration; the next `start` uses it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "mosquitto.conf").write_text(self._configuration(), encoding="utf-8")

    def start(self) -> None:
        """Start on the same port and wait until it accepts; does nothing while it runs."""
        if self.process is not None and self.process.poll() is None:
            return
        program = require("mosquitto")
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen(
                [program, "-c", str(self.folder / "mosquitto.conf")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            assert self.process.poll() is None, f"mosquitto ended at start:\n{self.log}"
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
            except OSError:
                assert time.monotonic() < deadline, f"mosquitto does not accept on port {self.port}:\n{self.log}"
                time.sleep(POLL_S)
            else:
                return

    def stop(self) -> None:
        """End it properly (it saves its sessions); kills it when it does not end in time."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """kill -9: what is not on its disk is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self, *, hard: bool = False) -> None:
        """Stop (or kill -9 when `hard`) and start again on the same port with the same persistence."""
        if hard:
            self.kill()
        else:
            self.stop()
        self.start()

    def endpoint(self, cert_file: Path | None = None, key_file: Path | None = None, ca_file: Path | None = None) -> Endpoint:
        """How a client with these files meets this broker; without files, a plain endpoint."""
        if self.tls is None:
            return Endpoint("127.0.0.1", self.port, Path(), Path(), Path())
        assert cert_file is not None
        assert key_file is not None
        return Endpoint("127.0.0.1", self.port, ca_file or self.tls.ca_file, cert_file, key_file)

    def _configuration(self) -> str:
        lines = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {self.folder}/",
            f"autosave_on_changes {'true' if self.durable else 'false'}",
            "autosave_interval 1",
            "log_dest stderr",
            "log_type error",
            "log_type warning",
            "log_type notice",
        ]
        if self.tls is None:
            lines.append("allow_anonymous true")
        else:
            lines += [
                f"cafile {self.tls.ca_file}",
                f"certfile {self.tls.cert_file}",
                f"keyfile {self.tls.key_file}",
                "require_certificate true",
                "use_identity_as_username true",
            ]
            if self.tls.crl_file is not None:
                lines.append(f"crlfile {self.tls.crl_file}")
        if "user " not in self.extra:
            lines.append("user root")  # only matters when started as root: keep the right to the test's own folder
        return "\n".join([*lines, self.extra, ""])
