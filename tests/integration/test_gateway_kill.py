"""kill -9 of a gateway, killed brokers, a full disk: every reading that was kept arrives, and none under two names.

The gateway is a child process; the brokers are real, and so is the full disk: a small tmpfs in a mount namespace of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import ThrowawayAuthority
from tests.support.core_stand_in import CoreStandIn, until
from tests.support.mosquitto import Mosquitto

pytestmark = pytest.mark.timeout(180)

LIVES = 8
DISK_MB = 48


@dataclass
class Told:
    """What a gateway's lives have said: per lane, what was tried, what was kept under which identity."""

    tried: dict[str, set[int]] = field(default_factory=lambda: {"fire": set(), "bulk": set()})
    kept: dict[str, dict[int, tuple[str, int]]] = field(default_factory=lambda: {"fire": {}, "bulk": {}})
    refused: dict[str, list[str]] = field(default_factory=lambda: {"fire": [], "bulk": []})
    states: list[dict[str, Any]] = field(default_factory=list)

    @property
    def next(self) -> int:
        return max((n for tried in self.tried.values() for n in tried), default=0) + 1

    def hear(self, line: bytes) -> None:
        match json.loads(line):
            case ["try", lane, n]:
                self.tried[lane].add(n)
            case ["put", lane, n, boot, seq]:
                self.kept[lane][n] = (boot, seq)
            case ["not", lane, _, why]:
                self.refused[lane].append(why)
            case ["state", state]:
                self.states.append(state)


@dataclass
class Bench:
    """Two brokers with a core each, and how to run the gateway against them."""

    folder: Path
    authority: ThrowawayAuthority
    brokers: dict[str, Mosquitto]
    cores: dict[str, CoreStandIn]
    told: Told = field(default_factory=Told)
    started: list[asyncio.subprocess.Process] = field(default_factory=list)

    def job(self, do: str, folder: Path, **more: Any) -> str:
        pair = self.authority.issue("gw1")
        return json.dumps(
            {
                "do": do,
                "folder": str(folder),
                "next": self.told.next,
                "ports": {name: broker.port for name, broker in self.brokers.items()},
                "tls": [str(self.authority.ca_file), str(pair.cert_file), str(pair.key_file)],
                **more,
            }
        )

    async def run(self, *command: str, kill_after_s: float | None = None) -> int:
        """Run a gateway to its end, or kill -9 it; what it said is heard to the last line."""
        child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, start_new_session=True)
        self.started.append(child)

        async def hear() -> None:
            assert child.stdout is not None
            async for line in child.stdout:
                if line.endswith(b"\n"):
                    self.told.hear(line)

        hearing = asyncio.create_task(hear())
        if kill_after_s is not None:
            async with asyncio.timeout(30.0):
                before = sum(map(len, self.told.kept.values()))
                while sum(map(len, self.told.kept.values())) == before:  # noqa: ASYNC110 - the child's doing
                    await asyncio.sleep(0.01)
            await asyncio.sleep(kill_after_s)
            child.kill()
        async with asyncio.timeout(90.0):
            await hearing
            return await child.wait()

    def expect_each_once(self, lane: str) -> None:
        """Everything kept is there under the identity it was given; no identity means two readings, and no reading has two."""
        names: dict[int, set[tuple[str, int]]] = {}
        for taken in self.cores[lane].readings:
            message = taken.message
            names.setdefault(int(message.values["n"] or 0), set()).add((message.boot, message.seq))
        assert all(len(found) == 1 for found in names.values())
        identities = [identity for found in names.values() for identity in found]
        assert len(identities) == len(set(identities))
        assert {n: {identity} for n, identity in self.told.kept[lane].items()}.items() <= names.items()
        assert set(names) <= self.told.tried[lane]


@contextmanager
def _brokers(folder: Path, authority: ThrowawayAuthority) -> Iterator[dict[str, Mosquitto]]:
    with (
        Mosquitto(folder / "fire", tls=authority.server(), durable=False) as fire,
        Mosquitto(folder / "bulk", tls=authority.server(), durable=False) as bulk,
    ):
        yield {"fire": fire, "bulk": bulk}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    authority = ThrowawayAuthority(tmp_path / "ca")
    core = authority.issue("core")
    with _brokers(tmp_path, authority) as brokers:
        ends = {name: broker.endpoint(core.cert_file, core.key_file) for name, broker in brokers.items()}
        async with CoreStandIn(ends["fire"]) as fire, CoreStandIn(ends["bulk"]) as bulk:
            bench = Bench(tmp_path, authority, brokers, {"fire": fire, "bulk": bulk})
            yield bench
            for child in bench.started:
                if child.returncode is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    await child.wait()


def _child(job: str) -> list[str]:
    return [sys.executable, "-m", "tests.support.gateway_child", job]


async def test_kill_9_at_any_moment_loses_nothing_that_was_kept_and_names_nothing_twice(bench: Bench) -> None:
    seed = os.environ.get("IOTCORE_SEED") or secrets.token_hex(4)
    print(f"IOTCORE_SEED={seed}")  # noqa: T201 - to repeat it
    chance = random.Random(seed)
    boxes = bench.folder / "boxes"
    boxes.mkdir()
    for life in range(LIVES):
        killed = asyncio.create_task(bench.run(*_child(bench.job("flow", boxes)), kill_after_s=chance.uniform(0.0, 0.8)))
        if life % 3 == 1:  # the link goes too, in the middle of this life
            victim = bench.brokers[chance.choice(["fire", "bulk"])]
            await asyncio.sleep(chance.uniform(0.5, 1.5))
            await asyncio.to_thread(victim.kill)
            await asyncio.to_thread(victim.start)
        assert await killed == -9
    assert await bench.run(*_child(bench.job("drain", boxes))) == 0
    assert bench.told.states == [{"fire": 0, "bulk": 0}]
    for lane in ("fire", "bulk"):
        assert len(bench.told.kept[lane]) > LIVES
        bench.expect_each_once(lane)


async def test_on_a_full_disk_bulk_is_refused_and_every_fire_goes_and_survives_a_kill(bench: Bench) -> None:
    disk = bench.folder / "disk"
    disk.mkdir()
    fire, bulk = bench.cores["fire"], bench.cores["bulk"]
    fire.receipting = bulk.receipting = False
    first, second = (shlex.join(_child(bench.job(do, disk, next=start))) for do, start in (("full", 1), ("after", 100_000)))
    go = bench.folder / "go"
    os.mkfifo(go)
    mount = f"mount -t tmpfs -o size={DISK_MB}m none {shlex.quote(str(disk))}"
    script = f"{mount} || exit 3; {first}; read _ < {shlex.quote(str(go))}; {second}"
    namespace = ["--mount"] if os.geteuid() == 0 else ["--mount", "--user", "--map-root-user"]
    running = asyncio.create_task(bench.run("unshare", *namespace, "sh", "-c", script))
    await until(lambda: bench.told.states, "the disk is full and fires went on", 60.0)
    kept = bench.told.kept["fire"]
    assert len(kept) == 201
    assert not bench.told.refused["fire"]
    assert all("full" in why or "no room" in why for why in bench.told.refused["bulk"])
    assert bench.told.states[0]["in_reserve"] > 150
    live = {int(t.message.values["n"] or 0) for t in fire.readings if not t.message.backlog}
    assert set(kept) <= live, "each went out at once"
    fire.receipting = bulk.receipting = True
    await asyncio.to_thread(go.write_text, "go on\n", encoding="ascii")
    assert await running == 0
    assert bench.told.states[1]["in_reserve"] > 150
    assert bench.told.states[-1] == {"in_reserve": 0}
    for lane in ("fire", "bulk"):
        bench.expect_each_once(lane)
