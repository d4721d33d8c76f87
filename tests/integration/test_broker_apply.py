"""`iotcore broker apply` on a real Mosquitto that somebody else runs, as another user: installed, read, and taken back."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from iotcore.clock import SystemClock
from iotcore.commands import broker
from iotcore.commands.broker import Target
from iotcore.errors import StartError
from iotcore.process import home
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import BrokerHome
from iotcore.provision.ca import Anchor, Authority
from iotcore.registry.store import open_registry
from iotcore.settings import Settings, check
from tests.support import commands
from tests.support.brokers import Site, accepted, becomes
from tests.support.pki import device_files
from tests.support.ports import free_port
from tests.support.services import require
from tests.support.until import until

FIRE = BrokerName.FIRE
NOBODY = 65534
CLOCK = SystemClock()


@dataclass
class Elsewhere:
    """A broker of somebody else's, in `folder`."""

    settings: Settings
    authority: Authority
    folder: Path
    target: Target
    process: subprocess.Popen[bytes] | None = None

    @property
    def site(self) -> Site:
        port = self.settings.brokers.fire.port
        return Site(self.folder.parent, "mosquitto", self.authority, {FIRE: BrokerHome(FIRE, self.folder, port)})

    async def start(self) -> None:
        as_user: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        command = [str(require("mosquitto")), "-c", str(self.folder / "mosquitto.conf")]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **as_user)  # noqa: ASYNC220 - a test's own server
        await until(self.listens, 10.0)

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.settings.brokers.fire.port)) == 0

    async def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            await asyncio.to_thread(self.process.wait)

    async def apply(self, **changes: Any) -> str:
        return "\n".join(await broker.apply(self.settings, FIRE, replace(self.target, **changes), CLOCK))

    def signal(self, name: str) -> list[str]:
        assert self.process is not None
        return ["kill", f"-{name}", str(self.process.pid)]

    def contents(self) -> dict[str, bytes]:
        return {
            path.name: path.read_bytes()
            for path in self.folder.iterdir()
            if path.suffix in {".conf", ".pem", ".key", ""} and path.is_file()
        }


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of another user's; pytest's own are their owner's alone."""
    place = Path(tempfile.mkdtemp(prefix="iotcore-elsewhere-"))
    place.chmod(0o755)
    made = place / "broker"
    made.mkdir()
    if os.geteuid() == 0:
        os.chown(made, NOBODY, NOBODY)
    yield made
    shutil.rmtree(place)


@pytest.fixture
async def elsewhere(tmp_path: Path, folder: Path) -> AsyncIterator[Elsewhere]:
    brokers = {"fire": {"port": free_port(), "run": "external"}, "field": {"port": free_port(), "run": "mosquitto"}}
    settings = check({"data": str(tmp_path / "data"), "brokers": brokers, "metrics": {"port": 0}}, "a test")
    authority = home.prepare(settings, CLOCK)
    async with await open_registry(settings.registry_url):
        pass
    made = Elsewhere(settings, authority, folder, Target(folder, folder, broker.installed()))
    yield made
    await made.stop()


async def test_a_broker_that_another_user_runs_gets_its_files_and_later_its_lists(elsewhere: Elsewhere) -> None:
    said = await elsewhere.apply()
    assert "acl, crl.pem, mosquitto.conf, server.key, server.pem, trust.pem written" in said
    assert "has to restart" in said
    assert (elsewhere.folder / "server.key").stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_uid for path in elsewhere.folder.iterdir() if path.is_file()} == {elsewhere.folder.stat().st_uid}
    await elsewhere.start()
    assert "nothing has changed" in await elsewhere.apply(), "the server's certificate is kept"
    certificate, key, issued = device_files(elsewhere.authority, elsewhere.folder.parent / "d", Anchor.FIRE, "d-1")
    tls = elsewhere.site.tls(certificate, key)
    assert await accepted(elsewhere.site, FIRE, tls)
    elsewhere.authority.revoke(Anchor.FIRE, issued.serial)
    said = await elsewhere.apply(reload=elsewhere.signal("HUP"))
    assert "crl.pem written" in said
    assert "the fire broker answers" in said
    assert await becomes(elsewhere.site, FIRE, tls, wanted=False)


async def test_what_the_broker_does_not_survive_is_taken_back(elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "ANSWER_LIMIT_S", 1.0)
    await elsewhere.apply()
    await elsewhere.start()
    before = elsewhere.contents()
    elsewhere.authority.revoke(Anchor.FIRE, "abc123")
    with pytest.raises(StartError, match=r"kill -KILL \d+.*does not answer with those either|not well with the new files"):
        await elsewhere.apply(reload=elsewhere.signal("KILL"))
    assert elsewhere.contents() == before
    assert (elsewhere.folder / "before" / "crl.pem").read_bytes() == before["crl.pem"]


async def test_a_reload_that_fails_is_told_with_its_words_and_taken_back(elsewhere: Elsewhere) -> None:
    await elsewhere.apply()
    await elsewhere.start()
    before = elsewhere.contents()
    elsewhere.authority.revoke(Anchor.FIRE, "abc123")
    tried = elsewhere.folder.parent / "tried"
    once = ["sh", "-c", f"test -e {tried} || {{ touch {tried}; echo no unit >&2; exit 5; }}"]
    with pytest.raises(StartError, match=r"ended with 5: no unit\. The files before are in place again, and it answers"):
        await elsewhere.apply(reload=once)
    assert elsewhere.contents() == before


async def test_files_that_no_mosquitto_takes_are_not_installed(elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    await elsewhere.apply()
    before = elsewhere.contents()
    monkeypatch.setattr("iotcore.provision.broker.SESSION_KEPT", "a while")
    with pytest.raises(StartError, match=r"(?s)ended at start: .*persistent_client_expiration"):
        await elsewhere.apply()
    assert elsewhere.contents() == before


async def test_for_another_release_it_says_that_it_could_not_be_tried(elsewhere: Elsewhere, tmp_path: Path) -> None:
    other = {"release": (9, 9), "plugins": tmp_path}
    with pytest.raises(StartError, match="cannot be tried here"):
        await elsewhere.apply(**other)
    assert elsewhere.contents() == {}
    await elsewhere.apply(**other, untried=True)
    text = (elsewhere.folder / "mosquitto.conf").read_text()
    assert f"plugin_load acl {tmp_path}/mosquitto_acl_file.so" in text


async def test_of_a_broker_that_is_ours_nothing_is_applied(elsewhere: Elsewhere) -> None:
    with pytest.raises(StartError, match="We run the field broker ourselves"):
        await broker.apply(elsewhere.settings, BrokerName.FIELD, elsewhere.target, CLOCK)


def test_the_form_of_2_1_has_nothing_that_2_1_calls_deprecated(elsewhere: Elsewhere) -> None:
    """`mosquitto.conf(5)` of 2.1: acl_file, password_file, per_listener_settings, allow_anonymous, auto_id_prefix, plugin."""
    deprecated = (
        "acl_file",
        "password_file",
        "per_listener_settings",
        "allow_anonymous",
        "auto_id_prefix",
        "plugin",
        "auth_plugin",
    )
    modern = replace(elsewhere.target, release=(2, 1), plugins=Path("/usr/lib/mosquitto"))
    settings = check({"data": "x", "brokers": {"fire": {"port": 1, "run": "external", "password_port": 2}}}, "a test")
    words = [line.split()[0] for line in broker.config(settings, FIRE, modern).splitlines()]
    assert not set(words) & set(deprecated)
    assert words.count("listener") == words.count("listener_allow_anonymous") == 2
    assert words.count("plugin_use") == 3, "an acl each, and the passwords"
    old = broker.config(settings, FIRE, replace(modern, release=(2, 0))).splitlines()
    assert old[1] == "per_listener_settings true", "before everything that it is about"


def test_the_command_prints_and_refuses(elsewhere: Elsewhere, tmp_path: Path) -> None:
    file = tmp_path / "iotcore.toml"
    file.write_text(f'data = "{elsewhere.settings.data}"\n[brokers.fire]\nport = 8883\nrun = "external"\n')

    def iotcore(*arguments: str) -> subprocess.CompletedProcess[str]:
        return commands.run("broker", *arguments, "--config", file)

    shown = iotcore("config", "fire", "--to", "/etc/mosquitto/iotcore", "--for", "2.0")
    assert shown.returncode == 0, shown.stderr
    assert "acl_file /etc/mosquitto/iotcore/acl" in shown.stdout
    assert "persistence_location /etc/mosquitto/iotcore/" in shown.stdout
    refused = iotcore("apply", "field", "--to", str(tmp_path / "field"))
    assert refused.returncode == 1
    assert "We run the field broker ourselves" in refused.stderr
