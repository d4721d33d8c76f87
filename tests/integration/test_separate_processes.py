"""The platform as deploy/ starts it: `iotcore init`, then each process by itself, its secrets as credentials of systemd."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cryptography import x509

from iotcore.cli import PROCESSES
from tests.support.ports import free_port
from tests.support.services import require

LIMIT_S = 40.0
POLL_S = 0.1
STOP_LIMIT_S = 15.0
NAME = "iot.example.vn"
KEY = "0123456789ABCDEF"

pytestmark = pytest.mark.timeout(120)


class Installation:
    """A settings file, a folder of credentials, and the processes that were started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.config = folder / "iotcore.toml"
        self.credentials = folder / "credentials"
        self.fire_port, field_port, web_port, est_port, arc_port = (free_port() for _ in range(5))
        self.config.write_text(
            f'data = "{self.data}"\n'
            f'[brokers.fire]\nrun = "mosquitto"\nhost = "localhost"\nlisten = "127.0.0.1"\nport = {self.fire_port}\n'
            f'names = ["{NAME}"]\n'
            f'[brokers.field]\nrun = "mosquitto"\nport = {field_port}\n'
            f"[web]\nport = {web_port}\nest_port = {est_port}\n[metrics]\nport = 0\n"
            '[[receivers]]\nkind = "sia_dc09"\nname = "fire-centre"\nhost = "127.0.0.1"\n'
            f'port = {arc_port}\nkey = "not set"\n',
            encoding="utf-8",
        )
        self.credentials.mkdir()
        (self.credentials / "IOTCORE_CA_PASSPHRASE").write_text("a passphrase of this test\n", encoding="utf-8")
        (self.credentials / "IOTCORE_RECEIVERS__FIRE_CENTRE__KEY").write_text(KEY, encoding="utf-8")

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "iotcore", *words, "--config", str(self.config)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "CREDENTIALS_DIRECTORY": str(self.credentials)}

    def iotcore(self, *words: str, credentials: bool = True) -> subprocess.CompletedProcess[str]:
        environment = self.environment() if credentials else dict(os.environ)
        command = self.command(*words)
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S)

    @contextmanager
    def process(self, name: str) -> Iterator[None]:
        with (self.folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(self.command("run", name), env=self.environment(), stdout=log, stderr=log)
        try:
            yield
        finally:
            child.terminate()
            child.wait(STOP_LIMIT_S)

    def findings(self) -> dict[str, bool]:
        """What the doctor says of each thing."""
        said = self.iotcore("doctor", "-o", "json")
        return {one["name"]: one["well"] for one in json.loads(said.stdout)}

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            logs = "\n".join(path.read_text(errors="replace")[-1500:] for path in self.folder.glob("*.log"))
            assert time.monotonic() < deadline, f"{what}\n{logs}"
            time.sleep(POLL_S)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    require("mosquitto")
    return Installation(tmp_path)


def test_processes_started_one_by_one_make_a_platform_that_the_doctor_finds_well(installation: Installation) -> None:
    said = installation.iotcore("init")
    assert said.returncode == 0, said.stderr
    assert not (installation.data / "ca" / "passphrase").exists(), "the passphrase came as a credential"
    parts = ["process fire", "process telemetry", "process modbus", "process web", "process keeper"]
    wanted = {"certificates", "registry", "journal", "store", "fire broker", "field broker", *parts}
    with ExitStack() as stack:
        for name in sorted(PROCESSES, reverse=True):  # in any order: each waits for what it needs
            stack.enter_context(installation.process(name))
        installation.until(
            lambda: {name for name, well in installation.findings().items() if well} >= wanted, "the doctor finds all well"
        )
        trust = installation.data / "certs" / "service-root.pem"
        assert {NAME, "localhost"} <= names_met_as(NAME, installation.fire_port, trust)


def names_met_as(name: str, port: int, trust_file: Path) -> set[str]:
    """The names in a broker's certificate, met by a device that knows it as `name` and trusts the service anchor."""
    trust = ssl.create_default_context(cafile=str(trust_file))
    with socket.create_connection(("127.0.0.1", port), 5.0) as plain, trust.wrap_socket(plain, server_hostname=name) as secured:
        shown = secured.getpeercert(binary_form=True)
    assert shown is not None
    names = x509.load_der_x509_certificate(shown).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return set(names.value.get_values_for_type(x509.DNSName))


def test_init_says_what_is_missing_and_makes_nothing(installation: Installation) -> None:
    said = installation.iotcore("init", credentials=False)
    assert said.returncode == 1
    assert said.stderr.strip() == (
        f"iotcore: {installation.config}: receivers[0].key: must have 16, 24 or 32 characters (AES-128, -192, -256)"
    )
    assert not installation.data.exists()
