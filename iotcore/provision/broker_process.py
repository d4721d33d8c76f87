"""Mosquitto as a child of ours: started, watched, told what to read anew and whom to put out, stopped; it does not outlive us."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from iotcore import metrics
from iotcore.errors import StartError
from iotcore.provision import session_cut, vendor_access
from iotcore.provision.broker import INSTALL, BrokerHome
from iotcore.provision.broker_figures import Figures, read_figures
from iotcore.provision.mosquitto import SESSIONS, find_mosquitto, form_here

START_LIMIT_S = 10.0
STOP_LIMIT_S = 10.0
POLL_S = 0.02
WATCH_S = 0.1
STEADY_S = 5.0  # a broker that lived so long is started again at once; for one that did not, our own supervisor waits
LOG_BYTES = 1_000_000  # then the log becomes mosquitto.log.1, replacing the one before
TAIL_LINES = 20
FIGURES_S = 5.0  # between two looks at what it counts
CUT_AGAIN_S = 1.0  # a session has to end within 10 s of its revocation

# Runs in the child before it becomes mosquitto: as many open files as allowed; and on Linux the kernel ends the child (SIGTERM:
# it saves its sessions) when the thread that started it dies: prctl(2), PR_SET_PDEATHSIG = 1. argv: our pid, the command.
_BECOME = """
import os, resource, sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted) if soft != resource.RLIM_INFINITY else soft, hard))
os.execv(sys.argv[2], sys.argv[2:])
"""

log = logging.getLogger(__name__)


async def run(
    home: BrokerHome,
    *,
    steady_s: float = STEADY_S,
    hear: Callable[[str], None] = lambda _: None,
    told: Callable[[Figures], None] = lambda _: None,
) -> None:
    """Serve until cancelled, from the main thread; a Mosquitto that dies is started again. Ends when it dies young.

    `hear` is given each line of its log (on another thread), `told` what it counts, every few seconds.

    Raises:
        StartError: it cannot start.
    """
    loop = asyncio.get_running_loop()
    process = BrokerProcess(home, hear=hear)
    steady = True
    counting = asyncio.create_task(_counted(process, told))
    try:
        while steady:
            process.start()
            began_s = loop.time()
            await _until_it_ends(process)
            steady = loop.time() - began_s >= steady_s
            log.error("the %s broker ended: %s", home.name.value, process.last_words)
            process.stop()
    finally:
        process.stop()
        counting.cancel()
        await asyncio.wait({counting})


async def _counted(process: BrokerProcess, told: Callable[[Figures], None]) -> None:
    """Ask it what it counts, for ever; what cannot be asked now is asked the next time."""
    while True:
        await asyncio.sleep(FIGURES_S)
        door = process.door if process.running else None
        if door is not None:
            with contextlib.suppress(session_cut.CutError):
                told(await read_figures(door))


async def _until_it_ends(process: BrokerProcess) -> None:
    """Hand it new revocation lists, acls and passwords meanwhile, and have it put out whom the keeper wants out."""
    known, done = process.began_with
    while process.running:
        await asyncio.sleep(WATCH_S)
        cuts = session_cut.wanted(process.home.folder)  # first: the keeper writes the list, then whom to cut
        if (now := _written(process.home)) != known:
            known = now
            process.reload()
        # It is told after the signal: it reads the list before anybody whom it puts out can have come back.
        names = sorted({cuts[one] for one in cuts.keys() - done})
        if names and not await process.cut(names):
            await asyncio.sleep(CUT_AGAIN_S)
            continue
        done = cuts.keys()


def _written(home: BrokerHome) -> list[int]:
    """When each file that a broker reads anew was written."""
    paths = [home.crl, *(home.folder / name for name in vendor_access.WATCHED)]
    return [path.stat().st_mtime_ns for path in paths if path.exists()]


class BrokerProcess:
    """One Mosquitto. Call `start` from the main thread: on Linux the broker ends with the thread that started it."""

    def __init__(self, home: BrokerHome, log_bytes: int = LOG_BYTES, *, hear: Callable[[str], None] = lambda _: None) -> None:
        self.home = home
        self._hear = hear  # each line of its log, on another thread
        self._log_bytes = log_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.door: session_cut.Door | None = None
        self.began_with: tuple[list[int], Collection[str]] = (
            [],
            (),
        )  # what it read at its start: files, and who was not to be in

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the broker is alive now."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def last_words(self) -> str:
        """The last lines it logged."""
        return "\n".join(self._tail)

    def start(self) -> None:
        """Start, and return once it answers with the right certificate; does nothing while it runs.

        Raises:
            StartError: mosquitto is missing, its port is taken, or it ends at once; says which.
        """
        if self.running:
            return
        program = find_mosquitto()
        if program is None:
            raise StartError("The program mosquitto is not installed", INSTALL)
        self._refuse_taken_port()
        self._tail.clear()
        self.door = session_cut.make_door(self.home.folder, form_here())
        if self.door is None:
            log.error("the %s broker cannot cut a session: %s is not installed", self.home.name.value, SESSIONS)
        self.began_with = (_written(self.home), session_cut.wanted(self.home.folder).keys())
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and the program we found
            [sys.executable, "-IS", "-c", _BECOME, str(os.getpid()), str(program), "-c", str(self.home.configuration.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us: the broker goes last, when the lanes have finished
        )
        assert self._process.stderr is not None
        self._reader = threading.Thread(target=self._keep_log, args=(self._process.stderr,), daemon=True)
        self._reader.start()
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.kill()
            raise

    def reload(self) -> None:
        """Have it read the acl and the revocation lists anew. Who is connected stays so: only new connections are refused."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGHUP)

    async def cut(self, names: Sequence[str]) -> bool:
        """End the live sessions of these names; False when it is to be tried again. Only the revocation list keeps them out."""
        broker = self.home.name.value
        if self.door is None:
            log.error("the sessions of %s at the %s broker go on: it cannot cut them", ", ".join(names), broker)
            metrics.sessions_not_cut.labels(broker).inc()
            return True
        try:
            await session_cut.cut(self.door, names)
        except session_cut.CutError as error:
            log.error("the sessions of %s at the %s broker are not cut yet: %s", ", ".join(names), broker, error)  # noqa: TRY400
            metrics.sessions_not_cut.labels(broker).inc()
            return False
        log.info("cut at the %s broker, their certificates are revoked: %s", broker, ", ".join(names))
        metrics.sessions_cut.labels(broker).inc(len(names))
        return True

    def stop(self) -> None:
        """End it so that it saves its sessions; kill it when it takes too long."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reap()

    def kill(self) -> None:
        """Kill it at once: what is not on its disk is gone."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def _reap(self) -> None:
        assert self._process is not None
        self._process.wait()
        if self._reader is not None:
            self._reader.join()
        if self._process.stderr is not None:
            self._process.stderr.close()
        self._process = self._reader = None

    def _refuse_taken_port(self) -> None:
        family = socket.AF_INET6 if ":" in self.home.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.home.host, self.home.port))
            except OSError as error:
                raise StartError(
                    f"The {self.home.name.value} broker cannot listen on {self.home.host}:{self.home.port}: {error.strerror}",
                    f"Stop the program that uses the port, or set brokers.{self.home.name.value}.port (or host) to another.",
                ) from error

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        context = ssl.create_default_context(cafile=str(self.home.trust))
        context.check_hostname = False  # the name is not the question here, the issuer is
        deadline = time.monotonic() + START_LIMIT_S
        while not self._answers(context):
            if self._process.poll() is not None:
                if self._reader is not None:
                    self._reader.join()
                raise StartError(f"The {self.home.name.value} broker ended at start: {self.last_words}", "Mend what it says.")
            if time.monotonic() > deadline:
                raise StartError(
                    f"The {self.home.name.value} broker does not answer on port {self.home.port}: {self.last_words}",
                    f"See {self._log}.",
                )
            time.sleep(POLL_S)

    def _answers(self, context: ssl.SSLContext) -> bool:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.home.host, self.home.host)  # noqa: S104 - compared, not bound
        try:
            with (
                socket.create_connection((host, self.home.port), timeout=1.0) as plain,
                context.wrap_socket(plain, server_hostname="localhost"),
            ):
                return True
        except OSError:
            return False

    @property
    def _log(self) -> Path:
        return self.home.folder / "mosquitto.log"

    def _keep_log(self, lines: IO[bytes]) -> None:
        """Until the broker ends: its words to a file that cannot grow without bound."""
        written = self._log.stat().st_size if self._log.exists() else 0
        file = self._log.open("ab", buffering=0)
        try:
            for line in lines:
                text = line.decode(errors="replace").rstrip()
                self._tail.append(text)
                self._hear(text)
                if written + len(line) > self._log_bytes:
                    file.close()
                    self._log.replace(self._log.with_name("mosquitto.log.1"))
                    file = self._log.open("ab", buffering=0)
                    written = 0
                with contextlib.suppress(OSError):  # a full disk must not stop the broker for want of a reader
                    written += file.write(line)
        finally:
            file.close()
