"""A real, private PostgreSQL: its own cluster in a temporary folder of its own, on a free loopback port, gone at the end.

with Postgres() as server: server.url(server.fresh())   # a new, empty database
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.ports import free_port
from tests.support.services import require

LIMIT_S = 30.0
POLL_S = 0.05


class Postgres:
    """One cluster. PostgreSQL refuses root, so root runs it as user `postgres`, who cannot enter pytest's own folders."""

    def __init__(self, *, fsync: bool = False) -> None:
        self._fsync = "on" if fsync else "off"
        self.folder = Path(tempfile.mkdtemp(prefix="iotcore-postgres-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def __enter__(self) -> Self:
        try:
            if os.geteuid() == 0:
                owner = pwd.getpwnam("postgres")
                os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            cluster = str(self.folder / "cluster")
            self._run("initdb", "-D", cluster, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
            self._start(cluster)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server, and remove its folder."""
        self.pause()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pause(self) -> None:
        """End the server, quickly but cleanly; `resume` starts it again with what it holds."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)  # "fast": cut the sessions, then end
            try:
                self.process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def resume(self) -> None:
        """Start it again on its port."""
        self._start(str(self.folder / "cluster"))

    def fresh(self) -> str:
        """Make an empty database and return its name."""
        self._databases += 1
        name = f"test_{self._databases}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", name)
        return name

    def url(self, database: str) -> str:
        """The tortoise URL of a database."""
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def _start(self, cluster: str) -> None:
        options = [
            "-p",
            str(self.port),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
            "-c",
            f"fsync={self._fsync}",
        ]
        with (self.folder / "log").open("ab") as log:
            command = self._command("postgres", "-D", cluster, *options)
            self.process = subprocess.Popen(command, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + LIMIT_S
        ready = self._command("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres")
        while subprocess.run(ready, cwd="/", check=False).returncode != 0:
            assert self.process.poll() is None, f"postgres ended at start:\n{(self.folder / 'log').read_text(errors='replace')}"
            assert time.monotonic() < deadline, "postgres does not answer"
            time.sleep(POLL_S)

    def _run(self, program: str, *arguments: str) -> None:
        command = self._command(program, *arguments)
        done = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S, check=False)
        assert done.returncode == 0, f"{program} failed:\n{(done.stdout + done.stderr).decode(errors='replace')}"

    @staticmethod
    def _command(program: str, *arguments: str) -> list[str]:
        command = [str(require(program)), *arguments]
        if os.geteuid() != 0:
            return command
        # the death signal ends the server even when the test run itself is killed
        switch = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=INT", "--"]
        return [*switch, *command]
