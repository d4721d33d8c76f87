"""The embedded fallback broker (amqtt, MQTT 3.1.1 only) as a child process on a free port."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.ports import free_port

START_LIMIT_S = 15.0
POLL_S = 0.05


class AmqttBroker:
    """Anonymous and plain; it keeps sessions in memory only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        configuration = {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
        path = self.folder / "amqtt.json"
        path.write_text(json.dumps(configuration), encoding="utf-8")  # JSON is YAML
        program = Path(sys.executable).parent / "amqtt"
        with (self.folder / "amqtt.log").open("wb") as log:
            self.process = subprocess.Popen([program, "-c", path], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_LIMIT_S
        while not self._accepts():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise AssertionError((self.folder / "amqtt.log").read_text(encoding="utf-8"))
            time.sleep(POLL_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        except OSError:
            return False
        return True
