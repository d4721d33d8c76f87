"""Two web processes on one PostgreSQL, as they run: a token is good once whichever is asked; a burst of guesses is told of."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession, TCPConnector, encode_basic_auth

from iotcore.clock import SystemClock
from iotcore.process import home
from iotcore.provision.refusals import PER_ADDRESS
from iotcore.registry.enrolments import Enrolments
from iotcore.registry.store import open_registry
from iotcore.registry.tokens import hash_of
from iotcore.settings import check
from iotcore.specs.load import load_folder, shipped_folder
from tests.support import commands
from tests.support.ports import free_port
from tests.support.postgres import Postgres
from tests.support.requests import request

pytestmark = pytest.mark.timeout(120)
START_LIMIT_S = 40.0
CROWD = 160


@dataclass
class Web:
    """One process: where it enrols, and where its metrics are."""

    est_port: int
    metrics_port: int
    config: Path
    kill: Callable[[], None] = lambda: None


@asynccontextmanager
async def web(folder: Path, name: str, registry: str) -> AsyncIterator[Web]:
    """`iotcore run web`, listening."""
    one = Web(free_port(), free_port(), folder / f"{name}.toml")
    one.config.write_text(
        f'data = "{folder / "data"}"\n[registry]\nurl = "{registry}"\n[metrics]\nport = {one.metrics_port - 2}\n'
        f"[web]\nport = {free_port()}\nest_port = {one.est_port}\n"
    )
    log = (folder / f"{name}.log").open("wb")
    command = (sys.executable, "-m", "iotcore", "run", "web", "--config", str(one.config))
    process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    one.kill = process.kill
    try:
        async with asyncio.timeout(START_LIMIT_S):
            while not await listens(one.est_port):
                assert process.returncode is None, (folder / f"{name}.log").read_text()
                await asyncio.sleep(0.1)
        yield one
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
        log.close()


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


class Devices:
    """A crowd that enrols, one connection each; who is cut off notes that and goes on with the next."""

    def __init__(self, trust: Path, tokens: dict[str, str]) -> None:
        self._tls = ssl.create_default_context(cafile=str(trust))
        self._tokens = tokens
        self.got: set[str] = set()
        self.lost: set[str] = set()

    async def enrol(self, at: Web, names: list[str], one: Callable[[], None] = lambda: None) -> None:
        """`one` is called after each certificate."""
        waiting = iter(names)

        async def each() -> None:
            for name in waiting:
                headers = {"Authorization": encode_basic_auth(name, self._tokens[name]), "Content-Type": "application/pkcs10"}
                address = f"https://localhost:{at.est_port}/.well-known/est/simpleenroll"
                try:
                    async with (
                        ClientSession(connector=TCPConnector(ssl=self._tls)) as session,
                        session.post(address, data=base64.b64encode(request(name)), headers=headers) as response,
                    ):
                        assert response.status == 200, await response.text()
                except ClientError:
                    self.lost.add(name)
                else:
                    self.got.add(name)
                    one()

        await asyncio.gather(*(each() for _ in range(16)))


async def test_kill_9_in_the_middle_leaves_no_token_without_its_certificate_and_no_certificate_without_its_entry(
    tmp_path: Path,
) -> None:
    settings = check({"data": str(tmp_path / "data")}, "test")
    home.prepare(settings, SystemClock())
    names = [f"ts-{number}" for number in range(CROWD)]
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(await open_registry(settings.registry_url))
        document = {"devices": [{"id": name, "title": name, "model": "iotcore-mqtt-signal"} for name in names]}
        await registry.import_city(document, load_folder(shipped_folder()), "tester")
        tokens = {name: await registry.create_token(name, 600.0) for name in names}
        devices = Devices(settings.folder / "certs" / "service-root.pem", tokens)
        async with web(tmp_path, "first", settings.registry_url) as first:
            await devices.enrol(first, names, lambda: first.kill() if len(devices.got) == CROWD // 4 else None)
        assert devices.lost
        certified = {one.cn for one in await registry.certificates()}
        assert devices.got <= certified
        used = {token.device for token in await Enrolments(registry.database).tokens() if token.used}
        deeds = [entry.deed for entry in await registry.audit_entries(limit=10_000)]
        noted = [{deed.subject for deed in deeds if deed.action == action} for action in ("token.use", "certificate.issue")]
        assert [used, *noted] == [certified] * 3
        left = [name for name in names if name not in certified]
        async with web(tmp_path, "second", settings.registry_url) as second:
            await devices.enrol(second, left)
        assert {one.cn for one in await registry.certificates()} == set(names)
        assert await registry.verify_audit() == []


async def test_fifty_uses_at_two_processes_make_one_certificate_and_guesses_are_told_of(
    postgres_server: Postgres, tmp_path: Path
) -> None:
    url = postgres_server.url(postgres_server.fresh())
    settings = check({"data": str(tmp_path / "data"), "registry": {"url": url}}, "test")
    home.prepare(settings, SystemClock())
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(await open_registry(url))
        document = {"devices": [{"id": "ts-1", "title": "1", "model": "iotcore-mqtt-signal"}]}
        await registry.import_city(document, load_folder(shipped_folder()), "tester")
        token = await registry.create_token("ts-1", 600.0)
        webs = [await stack.enter_async_context(web(tmp_path, f"web-{n}", url)) for n in (1, 2)]
        tls = ssl.create_default_context(cafile=str(settings.folder / "certs" / "service-root.pem"))
        session = await stack.enter_async_context(ClientSession(connector=TCPConnector(ssl=tls, limit=0)))

        async def ask(at: Web, secret: str) -> int:
            headers = {"Authorization": encode_basic_auth("ts-1", secret), "Content-Type": "application/pkcs10"}
            address = f"https://localhost:{at.est_port}/.well-known/est/simpleenroll"
            async with session.post(address, data=base64.b64encode(request("ts-1")), headers=headers) as response:
                return response.status

        statuses = await asyncio.gather(*(ask(webs[n % 2], token) for n in range(50)))
        assert statuses.count(200) == 1
        assert set(statuses) <= {200, 401, 429}
        assert [one.cn for one in await registry.certificates()] == ["ts-1"]
        for _ in range(PER_ADDRESS):
            await ask(webs[0], "guess")
        assert await ask(webs[0], "guess") == 429
        assert await registry.verify_audit() == []
        async with session.get(f"http://127.0.0.1:{webs[0].metrics_port}/metrics") as response:
            told = await response.text()
        assert "\niotcore_enrolment_burst 1.0\n" in told
        assert '\niotcore_enrolment_requests_total{outcome="limited"}' in told
        assert "ts-1" not in told
        await asyncio.sleep(1.2)  # a beat
        doctor = await asyncio.to_thread(commands.run, "doctor", "-o", "json", "--config", webs[0].config)
    (found,) = [one for one in json.loads(doctor.stdout) if one["name"] == "process web"]
    assert not found["well"]
    assert "enrolments were refused in this minute" in found["said"]


async def iotcore(config: Path, *arguments: str) -> str:
    """Run a command to its good end; what it said."""
    done = await asyncio.to_thread(commands.run, *arguments, "--config", config)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def test_from_the_maker_s_list_to_a_certificate_by_commands_alone(tmp_path: Path) -> None:
    settings = check({"data": str(tmp_path / "data")}, "test")
    home.prepare(settings, SystemClock())
    model = "iotcore-mqtt-signal"
    (tmp_path / "city.json").write_text(
        json.dumps({"devices": [{"id": f"ts-{n}", "title": "1", "model": model} for n in (1, 2)]})
    )
    (tmp_path / "lot7.csv").write_text(f"model,serial,secret\n{model},SN1,{hash_of('from the factory')}\n")
    async with web(tmp_path, "web", settings.registry_url) as one:
        await iotcore(one.config, "import", str(tmp_path / "city.json"))
        await iotcore(one.config, "token", "batch", str(tmp_path / "lot7.csv"))
        await iotcore(one.config, "token", "bind", "SN1", "ts-1")
        folder = str(tmp_path / "unit")
        said = await iotcore(one.config, "sim", "claim", "SN1", "--secret", "from the factory", "--folder", folder)
        assert said.startswith("SN1 is ts-1: ")
        token = await iotcore(one.config, "token", "create", "ts-2")
        port = free_port()
        page = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "iotcore", "sim", "page", "ts-2", "--port", str(port), "--config", str(one.config)),
            *("--folder", str(tmp_path / "page")),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert page.stdout is not None
            async with asyncio.timeout(START_LIMIT_S):
                assert f"http://127.0.0.1:{port}/" in (await page.stdout.readline()).decode()
            async with (
                ClientSession() as phone,
                phone.post(f"http://127.0.0.1:{port}/token", data={"token": token}) as response,
            ):
                assert (response.status, "enrolled" in await response.text()) == (200, True)
        finally:
            page.terminate()
            await page.communicate()
    rows = json.loads(await iotcore(one.config, "devices", "-o", "json"))
    assert {row["device"]: row["state"] for row in rows} == {"ts-1": "provisioned", "ts-2": "provisioned"}
    assert "state=enrolled" in await iotcore(one.config, "token", "units")
