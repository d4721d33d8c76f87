"""`iotcore` commands to their end, each a process of its own, without the second that the imports of each would take.

A server that has imported them forks one for each command. It is the real program: arguments, environment, folder, streams and
exit code are those of the command; only what Python reads at its own start is shared.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

LIMIT_S = 60.0
REQUEST_BYTES = 1 << 20


class _Server:
    """The process that forks, and the socket on which it is asked."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="commands-")
        self.path = str(Path(self.folder.name) / "socket")
        command = [sys.executable, "-m", "tests.support.commands", self.path]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def end(self) -> None:
        with self.process:
            assert self.process.stdin is not None
            self.process.stdin.close()
        self.folder.cleanup()


_servers: list[_Server] = []


def run(
    *words: str | Path,
    said: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = LIMIT_S,
) -> subprocess.CompletedProcess[str]:
    """`iotcore WORDS…` to its end, with `said` on its standard input.

    Raises:
        TimeoutError: it had not ended after `timeout` seconds; it is killed.
    """
    if not _servers:
        _servers.append(_Server())
    request = {"words": list(map(str, words)), "env": dict(os.environ if env is None else env), "cwd": str(cwd or Path.cwd())}
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(said.encode())
        given.seek(0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asked:
            asked.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, REQUEST_BYTES)
            asked.settimeout(timeout)
            asked.connect(_servers[0].path)
            socket.send_fds(asked, [json.dumps(request).encode()], [given.fileno(), out.fileno(), err.fileno()])
            pid = int(asked.recv(32))
            try:
                code = int(asked.recv(32))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode())
    return subprocess.CompletedProcess(["iotcore", *request["words"]], code, *texts)


def end() -> None:
    """Stop the server; the next command starts another."""
    while _servers:
        _servers.pop().end()


def _serve(path: str) -> None:
    for package in ("iotcore.commands", "iotcore.app"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(module.name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who forked nobody waits for is forgotten
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        server.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            ready, _, _ = select.select([server, sys.stdin], [], [])
            if sys.stdin in ready:  # whoever asked has ended
                return
            asked, _ = server.accept()
            with asked:
                if os.fork() == 0:
                    server.close()
                    _answer(asked)


def _answer(asked: socket.socket) -> NoReturn:
    """Run what is asked for in a further process, and tell first its number, then its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    content, streams, _, _ = socket.recv_fds(asked, REQUEST_BYTES, 3)
    child = os.fork()
    if child == 0:
        asked.close()
        _become(json.loads(content), streams)
    with contextlib.suppress(OSError):  # whoever asked has given up
        asked.send(str(child).encode())
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        asked.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(request: dict[str, object], streams: list[int]) -> NoReturn:
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[call-overload] # what `run` has sent
    os.chdir(str(request["cwd"]))
    sys.argv = ["iotcore", *request["words"]]  # type: ignore[misc] # likewise
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115 - they are this process's
    code = 0
    try:
        runpy.run_module("iotcore", run_name="__main__", alter_sys=False)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:  # noqa: BLE001 - as the interpreter would
        sys.excepthook(*sys.exc_info())
        code = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
