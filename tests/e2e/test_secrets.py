"""Nothing secret in databases, logs, answers or backups: secrets are planted through the real interfaces, then all is searched.

Where secrets rightly are, their owner alone can read them: the settings file, keys, the authority's passphrase.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from iotcore.errors import EnrolmentError
from simulators.cad_receiver import CadReceiver
from simulators.enrol import enrol
from simulators.mqtt_device import MqttDevice
from tests.support import commands
from tests.support.planted import found_in, private_keys, readable_by_others, search
from tests.support.platform import Platform
from tests.support.ports import free_port
from tests.support.postgres import Postgres
from tests.support.road import DETECTOR, QUIET, SMOKE, town
from tests.support.services import require
from tests.support.shipped import SPECS

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]
LIMIT_S = 20.0
DEAD = "http://127.0.0.1:9"  # nobody listens there
PLANTED = {
    "authority": "planted-authority-passphrase-1f3c",
    "wrong passphrase": "planted-wrong-passphrase-77aa",
    "database": "planted-database-password-90de",
    "influx": "planted-influx-token-5b2c==",
    "webhook": "planted-webhook-secret-e01d",
    "dc09": "PLANTED-DC09-KEY-c3a5-0123456789",
    "backup": "planted-backup-passphrase-ab12",
    "guessed token": "planted-guessed-token-4242",
    "person's password": "planted-password-of-lan-8c1e",
}
GENERATED = ("claim token", "device password", "first link", "session", "API token")


@dataclass(slots=True)
class Heard:
    """What the platform said to anybody: answers over HTTP, output of commands."""

    said: list[tuple[str, bytes]] = field(default_factory=list)

    def leaks(self, secrets: dict[str, str]) -> list[tuple[str, str]]:
        return [(where, name) for where, content in self.said for name in sorted(found_in(content, secrets))]


@dataclass(slots=True)
class Site:
    """A running platform, whose secrets are all known here."""

    platform: Platform
    postgres: Postgres
    database: str
    environment: dict[str, str]
    secrets: dict[str, str]
    heard: Heard
    broken: list[bytes] = field(default_factory=list)  # answers to what nobody had foreseen, with their headers

    def signed_in(self) -> list[dict[str, str]]:
        """Headers of a person's browser and of a program, both known to the platform."""
        return [
            {"Accept": "text/html", "Cookie": f"session={self.secrets['session']}"},
            {"Accept": "application/json", "Authorization": f"Bearer {self.secrets['API token']}"},
        ]

    def run(self, *arguments: str, config: bool = True, code: int | None = 0, **variables: str) -> str:
        """A command, whatever it says being kept; its standard output."""
        where = ("--config", self.platform.config) if config else ()
        done = commands.run(*arguments, *where, env={**os.environ, **self.environment, **variables})
        self.heard.said.append((" ".join(arguments[:2]), (done.stdout + done.stderr).encode()))
        assert code is None or done.returncode == code, (arguments, done.stdout, done.stderr)
        return done.stdout.strip()

    async def ask(self, method: str, url: str, **more: Any) -> int:
        """A request, whatever comes back being kept; its status."""
        async with aiohttp.ClientSession() as browser, browser.request(method, url, **more) as response:
            body = await response.read()
            headers = "\n".join(f"{name}: {value}" for name, value in response.headers.items()).encode()
            self.heard.said.append((f"{method} {url}", headers + b"\n" + body))
            return response.status


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A platform that runs and has met with every failure below."""
    require("mosquitto")
    folder: Path = tmp_path_factory.mktemp("secrets")
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(Postgres())
        cad = await stack.enter_async_context(CadReceiver("another secret: it refuses ours"))
        platform = Platform(folder, arc_port=free_port(), cad_url=cad.url, store={"kind": "influx2", "url": DEAD, "org": "o"})
        platform.settings["receivers"][0]["key"] = PLANTED["dc09"]
        platform.settings["receivers"][1]["secret"] = PLANTED["webhook"]
        platform.settings["brokers"]["field"]["password_port"] = free_port()
        platform.configure()
        platform.config.chmod(0o600)
        database = postgres.fresh()
        url = postgres.url(database).replace("postgres@", f"postgres:{PLANTED['database']}@")
        environment = {
            "IOTCORE_CA_PASSPHRASE": PLANTED["authority"],
            "IOTCORE_REGISTRY__URL": url,
            "IOTCORE_STORE__TOKEN": PLANTED["influx"],
        }
        made = Site(platform, postgres, database, environment, dict(PLANTED), Heard())
        os.environ |= environment
        stack.callback(lambda: [os.environ.pop(name, None) for name in environment])
        city = town(2)
        city["devices"].append({"id": "air-9", "title": "Air", "model": "airgradient-one"})
        platform.import_city(city)
        stack.push_async_callback(platform.stop)
        await platform.start()
        await _live(made)
        await _fail(made)
        yield made


async def _live(site: Site) -> None:
    """What a platform does every day."""
    platform = site.platform
    token = await asyncio.to_thread(site.run, "token", "create", "sd-1")
    password = await asyncio.to_thread(site.run, "device", "credential", "air-9")
    site.secrets |= {"claim token": token, "device password": password}
    await _signed_in(site)
    shown_once = {"token create", "device credential", "apitoken create"}
    site.heard.said = [one for one in site.heard.said if one[0] not in shown_once]
    service = platform.data / "certs" / "service-root.pem"
    identity = await enrol(f"https://127.0.0.1:{platform.est_port}", token, "sd-1", service, platform.folder / "devices")
    device = MqttDevice("sd-1", SPECS[DETECTOR], identity.endpoint("127.0.0.1", platform.fire_port), resend_s=3.0)
    async with device:
        for values in (QUIET, SMOKE, SMOKE):
            await device.report(values)
        await platform.until(lambda: bool(platform.rows("journal.db", "SELECT 1 FROM incident")), LIMIT_S, "an incident")
        refused = "SELECT 1 FROM outbox WHERE channel = 'cad' AND attempts > 0"
        await platform.until(lambda: bool(platform.rows("journal.db", refused)), LIMIT_S, "the webhook is refused")
    for words in (
        ("devices", "-o", "json"),
        ("incidents", "-o", "json"),
        ("audit", "show"),
        ("ca", "status"),
        ("registry", "status"),
    ):
        await asyncio.to_thread(site.run, *words)
    await asyncio.to_thread(site.run, "store", "init", code=None)


async def _signed_in(site: Site) -> None:
    """The first admin comes by the link in the data folder, and makes a token for a program."""
    page = f"http://127.0.0.1:{site.platform.web_port}"
    link = (site.platform.data / "first-link").read_text(encoding="utf-8").strip()
    site.secrets["first link"] = link.rpartition("/")[2]
    form = {"name": "lan", "password": PLANTED["person's password"]}
    origin = {"Origin": page, "Accept": "text/html"}
    assert await site.ask("GET", link, headers=origin) == HTTPStatus.OK
    assert (
        await site.ask("POST", link, data={"name": "lan", "password": "short"}, headers=origin) == HTTPStatus.UNPROCESSABLE_ENTITY
    )
    async with aiohttp.ClientSession() as browser, browser.post(link, data=form, headers=origin, allow_redirects=False) as answer:
        assert answer.status == HTTPStatus.SEE_OTHER
        site.secrets["session"] = answer.cookies["session"].value  # set once, on purpose
    site.secrets["API token"] = await asyncio.to_thread(site.run, "apitoken", "create", "lan", "test", "--role", "viewer")
    assert await site.ask("POST", link, data=form, headers=origin) == HTTPStatus.GONE
    form["password"] = PLANTED["guessed token"]
    await site.ask("POST", f"{page}/sign-in", data=form, headers=origin)
    for who in site.signed_in():
        for path in ("/", "/account", "/groups", "/coverage", "/approvals", "/devices/sd-1", "/devices/air-9", "/nothing"):
            await site.ask("GET", f"{page}{path}", headers=who)


async def _broken(site: Site) -> None:
    """Somebody has meddled with a row of the database: a page that reads it cannot but fail."""
    wanted = site.platform.folder / "wanted.json"
    wanted.write_text('{"interval_s": 5}', encoding="utf-8")
    await asyncio.to_thread(site.run, "device", "config", "sd-1", "--set", str(wanted))
    meddled = "UPDATE registry.device_config SET body = '{meddled'"
    server = ["-h", "127.0.0.1", "-p", str(site.postgres.port), "-U", "postgres", "-d", site.database]
    await asyncio.to_thread(subprocess.run, [str(require("psql")), *server, "-c", meddled], check=True, capture_output=True)
    for who in site.signed_in():
        status = await site.ask("GET", f"http://127.0.0.1:{site.platform.web_port}/devices/sd-1", headers=who)
        assert status == HTTPStatus.INTERNAL_SERVER_ERROR
        site.broken.append(site.heard.said[-1][1])
    mended = meddled.replace("{meddled", "{}")
    await asyncio.to_thread(subprocess.run, [str(require("psql")), *server, "-c", mended], check=True, capture_output=True)


async def _fail(site: Site) -> None:
    """What goes wrong, and what strangers try."""
    platform = site.platform
    page, est = f"http://127.0.0.1:{platform.web_port}", f"https://127.0.0.1:{platform.est_port}"
    service = platform.data / "certs" / "service-root.pem"
    for token in (PLANTED["guessed token"], site.secrets["claim token"]):  # one that never was, and one that is used up
        with pytest.raises(EnrolmentError):
            await enrol(est, token, "sd-2", service, platform.folder / "devices")
    given = base64.b64encode(f"sd-1:{PLANTED['guessed token']}".encode()).decode()
    basic = {"Authorization": f"Basic {given}"}
    for path in ("/.well-known/est/simpleenroll", "/nothing"):
        await site.ask("POST", f"{est}{path}", data=b"garbage", headers=basic, ssl=False)
    for method, path in (("GET", "/healthz"), ("GET", "/nothing"), ("POST", "/"), ("GET", "/devices/x%00y"), ("GET", "/")):
        await site.ask(method, f"{page}{path}", headers=basic)
    for words in (("ca", "status"), ("doctor",), ("backup", str(platform.folder / "x.age"), "--recipient", "age1nonsense")):
        await asyncio.to_thread(site.run, *words, code=None, IOTCORE_CA_PASSPHRASE=PLANTED["wrong passphrase"])
    await asyncio.to_thread(
        site.run, "devices", code=1, IOTCORE_REGISTRY__URL=site.environment["IOTCORE_REGISTRY__URL"] + "_gone"
    )
    assert site.postgres.process is not None
    await asyncio.to_thread(_backed_up, site)
    await _broken(site)
    site.postgres.process.send_signal(signal.SIGINT)  # "fast": cut the sessions, then end
    await asyncio.to_thread(site.postgres.process.wait)
    for command in ("devices", "doctor -o json", "token create sd-2"):
        await asyncio.to_thread(site.run, *command.split(), code=1)
    await site.ask("GET", f"{page}/devices/sd-1", headers=basic)
    await site.ask("POST", f"{est}/.well-known/est/simpleenroll", data=b"MIIB", headers=basic, ssl=False)
    log = platform.folder / "up.log"
    await platform.until(lambda: b"registry cannot be read" in log.read_bytes(), LIMIT_S, "the database is missed")


def _backed_up(site: Site) -> None:
    folder = site.platform.folder
    secret = folder / "passphrase"
    secret.write_text(f"{PLANTED['backup']}\n", encoding="utf-8")
    secret.chmod(0o600)
    site.run("backup", str(folder / "b.age"), "--passphrase-file", str(secret))
    public = site.run("backup", "key", str(folder / "key"))
    site.run("backup", str(folder / "c.age"), "--recipient", public)
    site.run(
        "restore", str(folder / "c.age"), "--to", str(folder / "data"), "--identity", str(folder / "key"), config=False, code=1
    )


async def test_the_search_is_not_blind(site: Site) -> None:
    """All that was planted is where it rightly is."""
    config = site.platform.config.read_bytes()
    assert found_in(config, site.secrets) == {"dc09", "webhook"}
    assert len(site.secrets) == len(PLANTED) + len(GENERATED)
    assert len(site.heard.said) > 20
    assert all(len(secret) >= 12 for secret in site.secrets.values())


async def test_no_answer_and_no_output_holds_a_secret(site: Site) -> None:
    link = site.secrets["first link"]  # its own page knows its address: of that the links to the other language are made
    assert [(where, name) for where, name in site.heard.leaks(site.secrets) if not (name == "first link" and link in where)] == []


async def test_an_error_that_nobody_foresaw_tells_nothing(site: Site) -> None:
    page, document = site.broken
    assert b"Internal Server Error" in page
    assert b"application/problem+json" in document
    folder = str(site.platform.folder).encode()
    for answer in site.broken:
        for told in (b"Traceback", b'File "', b"JSONDecode", b"meddled", b"iotcore/", folder):
            assert told not in answer.replace(b"urn:iotcore", b"")
    assert b"Traceback" in (site.platform.folder / "up.log").read_bytes()  # it is there for whoever runs the platform


async def test_no_log_holds_a_secret(site: Site) -> None:
    log = (site.platform.folder / "up.log").read_bytes()
    assert b"registry cannot be read" in log
    assert found_in(log, site.secrets) == set()


async def test_no_file_of_the_platform_holds_a_secret(site: Site) -> None:
    assert list(search(site.platform.data, site.secrets)) == []
    assert list(search(site.postgres.folder, site.secrets)) == []


async def test_keys_and_settings_can_be_read_by_their_owner_alone(site: Site) -> None:
    keys = list(private_keys(site.platform.data))
    assert len(keys) >= 12
    rightly = [*keys, site.platform.config, site.platform.folder / "key", site.platform.folder / "b.age"]
    assert readable_by_others(rightly) == []
    assert readable_by_others(site.platform.data / name for name in ("", "ca", "audit", "certs", "broker", ".backup")) == []


async def test_an_opened_backup_holds_secrets_only_in_its_sealed_part(site: Site, tmp_path: Path) -> None:
    folder = site.platform.folder
    assert found_in((folder / "c.age").read_bytes(), site.secrets) == set()
    unpacked(folder / "key", folder / "c.age", tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_bytes())
    assert manifest["registry"] == "postgres"
    assert set(manifest["from_environment"]) >= {"IOTCORE_CA_PASSPHRASE", "IOTCORE_REGISTRY__URL", "IOTCORE_STORE__TOKEN"}
    assert list(search(tmp_path, site.secrets)) == []
    assert list(private_keys(tmp_path)) == []
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    unpacked(folder / "key", tmp_path / "sealed.age", sealed)
    assert set(search(sealed, site.secrets)) == {("settings.toml", "dc09"), ("settings.toml", "webhook")}
    shutil.rmtree(sealed)


async def test_the_registry_holds_hashes_only(site: Site, tmp_path: Path) -> None:
    """What a reader of the database would find of a token and of a password."""
    unpacked(site.platform.folder / "key", site.platform.folder / "c.age", tmp_path)
    tokens = _cells((tmp_path / "registry" / "claim_token.csv").read_text(encoding="utf-8").splitlines())
    assert all(len(row["hash"]) == 64 for row in tokens)
    (credential,) = _cells((tmp_path / "registry" / "credential.csv").read_text(encoding="utf-8").splitlines())
    assert credential["hash"].startswith("$7$")


def unpacked(key: Path, file: Path, to: Path) -> None:
    """Open an archive with age and tar."""
    subprocess.run(f"{require('age')} -d -i {key} {file} | tar x -C {to}", shell=True, check=True)


def _cells(lines: Iterable[str]) -> list[dict[str, str]]:
    return list(csv.DictReader(lines))
