"""`iotcore demo` as a person runs it: a process of its own, watched from outside."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from http.cookiejar import CookieJar
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from iotcore.journal.database import connect_readonly
from tests.support.ports import free_port

START_LIMIT_S = 60.0
STOP_LIMIT_S = 15.0
UP = "The city is up"


class Demo:
    """Started at once; a context that ends with SIGINT whatever still runs. `folder` is its data folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self._cookies = CookieJar()
        self._browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._cookies))
        name = f"{folder.name}-{self.port}"
        self._out, self._err = folder.with_name(f"{name}.out"), folder.with_name(f"{name}.err")
        command = [sys.executable, "-m", "iotcore", "demo", "--data", str(folder), "--port", str(self.port), *options]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGINT)

    @property
    def out(self) -> str:
        """What it said on standard output."""
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        """What it said on standard error."""
        return self._err.read_text(encoding="utf-8")

    def wait(self, limit_s: float) -> int:
        """Its exit code."""
        return self.process.wait(limit_s)

    def stop(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_LIMIT_S)

    def until(self, condition: Callable[[], bool], what: str, limit_s: float = START_LIMIT_S) -> None:
        """Wait for a condition while the demo runs; fail with its own words."""
        deadline = time.monotonic() + limit_s
        while not condition():
            assert self.process.poll() is None, f"the demo ended before {what}:\n{self.out}{self.err}"
            assert time.monotonic() < deadline, f"not in {limit_s:.0f} s: {what}\n{self.out}{self.err}{self.log()}"
            time.sleep(0.05)

    def until_up(self) -> None:
        """Wait until the city is up."""
        self.until(lambda: UP in self.out, UP)

    def page(self, path: str = "/") -> str:
        """A page as a browser gets it that has followed the demo's link and pressed its button."""
        if not list(self._cookies):
            (link,) = re.findall(r"http://127\.0\.0\.1:\d+/link/[\w-]+", self.out)
            origin = {"Origin": link.partition("/link/")[0]}
            self._open(urllib.request.Request(link, b"", origin, method="POST"))
        return self._open(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Accept": "text/html"}))

    def _open(self, request: urllib.request.Request) -> str:
        with self._browser.open(request, timeout=10) as answer:
            return str(answer.read().decode())

    def pid(self, part: str) -> int:
        """The process of a part of the platform."""
        return int(json.loads((self.folder / "run" / f"{part}.json").read_text())["pid"])

    def incidents(self) -> dict[str, str]:
        """All incidents of the journal and their premises, oldest first."""
        return dict(self.rows("journal.db", "SELECT id, premises FROM incident ORDER BY decided_ms"))

    def rows(self, file: str, query: str) -> list[Any]:
        """Rows of one of its databases; none while the file or the table is not there."""
        try:
            connection = connect_readonly(self.folder / file)
        except sqlite3.OperationalError:
            return []
        try:
            return [tuple(row) for row in connection.execute(query)]
        except sqlite3.OperationalError:
            return []
        finally:
            connection.close()

    def log(self) -> str:
        """The end of its log."""
        path = self.folder / "log" / "iotcore.log"
        return path.read_text(encoding="utf-8")[-4000:] if path.exists() else ""

    def living(self) -> list[str]:
        """Every process that works for this folder: the demo, its children, their brokers."""
        found = []
        for process in psutil.process_iter(["pid", "cmdline", "status"]):
            words = process.info["cmdline"] or []
            if process.info["status"] != psutil.STATUS_ZOMBIE and any(str(self.folder) in word for word in words):
                found.append(f"{process.info['pid']} {' '.join(words)}")
        return found

    def until_gone(self, limit_s: float) -> None:
        """Wait until none of its processes is left."""
        deadline = time.monotonic() + limit_s
        while self.living():
            assert time.monotonic() < deadline, f"left behind: {self.living()}\n{self.log()}"
            time.sleep(0.05)


def once(folder: Path, *options: str, limit_s: float = 150.0) -> tuple[Demo, dict[str, Any]]:
    """Run one fire to its end; the demo and the JSON that it said."""
    with Demo(folder, "--once", "--json", *options) as demo:
        code = demo.wait(limit_s)
    assert code == 0, f"{demo.out}{demo.err}{demo.log()}"
    return demo, json.loads(demo.out)
