"""Mosquitto as our child: what stands in its way is said, it survives us in no case, and it keeps what it must."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from iotcore.errors import StartError
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import BrokerHome, choose, configuration, write_home
from iotcore.provision.broker_process import BrokerProcess, run
from iotcore.provision.mosquitto import find_mosquitto, form_here
from tests.support.brokers import Site, becomes, site
from tests.support.pki import PASSPHRASE, authority
from tests.support.ports import free_port
from tests.support.until import until

FIRE = BrokerName.FIRE
NOBODY = 65534

START_AND_TELL = """
import sys, time
from pathlib import Path
from iotcore.clock import SystemClock
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import BrokerHome, write_home
from iotcore.provision.broker_process import BrokerProcess
from iotcore.provision.ca import Authority
folder = Path(sys.argv[1])
home = BrokerHome(BrokerName.FIRE, folder / "broker", int(sys.argv[2]))
write_home(Authority.ensure(folder / "ca", sys.argv[3].encode(), SystemClock()), home)
broker = BrokerProcess(home)
broker.start()
print(broker.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def home(tmp_path: Path) -> BrokerHome:
    made = BrokerHome(FIRE, tmp_path / "broker", free_port())
    write_home(authority(tmp_path), made)
    return made


def test_a_taken_port_is_one_clear_line(home: BrokerHome) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((home.host, home.port))
        taken.listen()
        with pytest.raises(StartError, match=rf"cannot listen on 127\.0\.0\.1:{home.port}: Address already in use") as error:
            BrokerProcess(home).start()
    assert "brokers.fire.port" in error.value.remedy


def test_a_configuration_that_mosquitto_refuses_is_told_in_its_own_words(home: BrokerHome) -> None:
    home.certificate.unlink()
    with pytest.raises(StartError, match=r"(?s)broker ended at start: .*server\.pem"):
        BrokerProcess(home).start()


def test_without_mosquitto_the_choice_falls_on_the_embedded_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_mosquitto() is not None, "mosquitto is not installed: apt-get install mosquitto"
    assert choose("auto") == choose("mosquitto") == "mosquitto"
    assert choose("external") == "external"
    monkeypatch.setenv("PATH", "")
    found = find_mosquitto()
    assert found is None or found.parent.name == "sbin"  # looked for beyond a user's PATH


async def test_a_restart_keeps_sessions_queued_and_retained_messages(tmp_path: Path) -> None:
    async with site(tmp_path, "mosquitto", [FIRE]) as city:
        broker = city.running[FIRE]
        assert isinstance(broker, BrokerProcess)
        lane, device = city.service("svc.fire.1.in"), city.device("d-1")
        async with city.client(FIRE, lane, clean_session=False) as client:
            await client.listen("iot/v1/fire/+/up/#")
        async with city.client(FIRE, device) as client:
            await client.say("iot/v1/fire/d-1/up/status/d-1", retain=True)
            await client.say("iot/v1/fire/d-1/up/reading/d-1")
        broker.stop()
        assert not broker.running
        broker.start()
        async with city.client(FIRE, lane, clean_session=False) as client:
            assert sorted(await client.until(lambda topics: len(topics) == 2)) == [
                "iot/v1/fire/d-1/up/reading/d-1",
                "iot/v1/fire/d-1/up/status/d-1",
            ]
        async with city.client(FIRE, city.service("svc.telemetry.1.fire")) as client:
            await client.listen("iot/v1/fire/+/up/status/+")
            await client.until(bool)
            assert client.received[0].retain


def test_a_killed_parent_leaves_no_broker(tmp_path: Path) -> None:
    command = [sys.executable, "-c", START_AND_TELL, str(tmp_path), str(free_port()), PASSPHRASE.decode()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        broker = psutil.Process(int(parent.stdout.readline()))
        assert broker.name() == "mosquitto"
        parent.kill()
        broker.wait(timeout=10)
    assert (tmp_path / "broker" / "mosquitto.db").exists()  # it was asked to end, and saved


async def test_its_log_is_kept_and_cannot_grow_without_bound(home: BrokerHome) -> None:
    log = home.folder / "mosquitto.log"
    older = log.with_name("mosquitto.log.1")
    with BrokerProcess(home, log_bytes=2_000):
        deadline = time.monotonic() + 20.0
        while not older.exists() and time.monotonic() < deadline:  # the broker says a line of each connection, in its own time
            _, writer = await asyncio.open_connection("127.0.0.1", home.port)
            writer.close()
            await writer.wait_closed()
    assert 0 < log.stat().st_size <= 2_000
    assert 0 < older.stat().st_size <= 2_000


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user can reach; pytest's are its owner's alone."""
    folder = Path(tempfile.mkdtemp(prefix="iotcore-broker-"))
    yield folder
    shutil.rmtree(folder)


async def test_the_configuration_works_for_a_user_who_is_not_root(open_folder: Path) -> None:
    home = BrokerHome(FIRE, open_folder / "broker", free_port())
    ours = authority(open_folder)
    write_home(ours, home)
    home.configuration.write_text(configuration(home, form_here(), as_root=False))
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        for path in (open_folder, home.folder, *home.folder.iterdir()):
            os.chown(path, NOBODY, NOBODY)
        as_user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    program = find_mosquitto()
    assert program is not None, "mosquitto is not installed: apt-get install mosquitto"
    broker = await asyncio.create_subprocess_exec(program, "-c", home.configuration, stderr=subprocess.DEVNULL, **as_user)
    try:
        city = Site(open_folder, "mosquitto", ours, {FIRE: home})
        assert await becomes(city, FIRE, city.device("d-1"), wanted=True)
    finally:
        broker.terminate()
        await broker.wait()
    assert (home.folder / "mosquitto.db").exists()


def test_a_normal_user_s_configuration_names_no_user(home: BrokerHome) -> None:
    assert "user " not in configuration(home, form_here(), as_root=False).replace("use_", "")
    assert "\nuser root\n" in configuration(home, form_here(), as_root=True)


def pid_in(home: BrokerHome) -> int:
    """The Mosquitto that has written its pid file, 0 while there is none."""
    try:
        return int((home.folder / "mosquitto.pid").read_text())
    except (FileNotFoundError, ValueError):
        return 0


async def test_a_mosquitto_that_is_killed_runs_again_at_once(home: BrokerHome) -> None:
    serving = asyncio.create_task(run(home, steady_s=0.0))
    await until(lambda: pid_in(home) > 0)
    first = pid_in(home)
    os.kill(first, signal.SIGKILL)
    await until(lambda: pid_in(home) not in (0, first), within_s=3.0)
    second = pid_in(home)
    assert psutil.Process(second).name() == "mosquitto"
    serving.cancel()
    await asyncio.wait({serving})
    assert not psutil.pid_exists(second)


async def test_a_mosquitto_that_dies_young_is_left_to_our_own_supervisor(home: BrokerHome) -> None:
    serving = asyncio.create_task(run(home))
    await until(lambda: pid_in(home) > 0)
    os.kill(pid_in(home), signal.SIGKILL)
    done, _ = await asyncio.wait({serving}, timeout=3.0)
    assert done == {serving}, "it would start a broker that cannot live again and again"
    await serving
