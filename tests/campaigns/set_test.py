"""The set test, as Jepsen does it: numbered readings through every fault we can make, then one question: is each there once?

    50 devices that keep a reading until its receipt ──► the real platform (set_site) ──► store
                    │                                        ▲                              │
                    └──────────── history ───► check ◄───────┼──────── what it holds ───────┘
                                                             nemesis: kill -9, SIGSTOP, full disk, cut and silent links

`python -m tests.campaigns.set_test --messages 200000 --seed SEED` prints each fault, a table, and one JSON object as its last
line; it exits with 1 when anything receipted is lost, anything sent is missing, or anything is in the store twice. It runs in a
mount namespace of its own (as root, or where users may have one), because the data folder is on a small tmpfs.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import logging
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.campaigns import set_store
from tests.campaigns.nemesis import Fault, Step, schedule
from tests.campaigns.set_devices import NumberedDevice
from tests.campaigns.set_site import WORKER, Site
from tests.support.set_check import Report, check

DEVICES = 50
DISK_MB = 64  # holds the reserve, the registry and a spool; the embedded store gets room for its values besides
ROOM_BYTES_A_READING = 400
STILL_S = 8.0  # the store takes nothing more: what is not there now does not come. More than the drain's longest pause
POLL_S = 0.1
WITHOUT_STORE = (Fault.KILL_STORE, Fault.PAUSE_STORE)  # the embedded store is no process


class Campaign:
    """One run."""

    def __init__(self, site: Site, options: argparse.Namespace) -> None:
        self._site = site
        self._options = options
        self._began_s = time.monotonic()
        self._victims: dict[str, asyncio.Lock] = {}
        self._devices: list[NumberedDevice] = []
        self._done = False  # no device makes any more

    async def run(self) -> Report:
        """Readings and faults, then rest, then the judgement."""
        options, site = self._options, self._site
        async with AsyncExitStack() as stack:
            for index, name in enumerate(site.names):
                patience = {"resend_s": options.resend_s, "give_up_s": options.settle_s}
                device = NumberedDevice(index, name, site.spec, site.endpoint(name), window=options.window, **patience)
                self._devices.append(await stack.enter_async_context(device))
            steps = schedule(options.seed, options.messages, options.rounds, faults(options), options.longest_s)
            misbehaving = asyncio.create_task(self._misbehave(steps))
            each = options.messages // len(self._devices), options.rate / len(self._devices)
            await asyncio.gather(*(device.make(*each) for device in self._devices))
            self._done = True
            await misbehaving
            self._say(f"{self._made} readings made, {self._held} wait for their receipts")
            await self._until(lambda: self._held == 0, options.settle_s)
            self._say(f"{self._held} wait for their receipts")
            await self._rest()
        return check((one for device in self._devices for one in device.history()), await asyncio.to_thread(self._points))

    @property
    def _made(self) -> int:
        return sum(device.counters.reported for device in self._devices)

    @property
    def _held(self) -> int:
        return sum(device.held for device in self._devices)

    def _points(self) -> list[Any]:
        return set_store.points(self._site)

    async def _misbehave(self, steps: Sequence[Step]) -> None:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                await self._until(lambda step=step: self._made >= step.after or self._done)  # type: ignore[misc]
                if self._done:
                    return
                group.create_task(self._strike(step))

    async def _strike(self, step: Step) -> None:
        async with self._victims.setdefault(step.fault.victim, asyncio.Lock()):
            self._say(f"{step.fault.value}, for {step.lasts_s:.1f} s (after {self._made} readings)")
            await self._site.begin(step.fault)
            await asyncio.sleep(step.lasts_s)
            await self._site.end(step.fault)

    async def _rest(self) -> None:
        """Until the store has everything, or takes nothing more."""
        held, since_s, deadline_s = -1, time.monotonic(), time.monotonic() + self._options.settle_s
        while held < self._made and time.monotonic() < deadline_s and time.monotonic() - since_s < STILL_S:
            now = await asyncio.to_thread(set_store.count, self._site)
            if now != held:
                held, since_s = now, time.monotonic()
            await asyncio.sleep(POLL_S)
        self._say(f"the store has {held} points")

    async def _until(self, condition: Callable[[], bool], limit_s: float = float("inf")) -> None:
        deadline_s = time.monotonic() + limit_s
        while not condition() and time.monotonic() < deadline_s:  # noqa: ASYNC110 - other programs' doing
            await asyncio.sleep(POLL_S / 5)

    def _say(self, what: str) -> None:
        print(f"{time.monotonic() - self._began_s:7.1f} s  {what}", flush=True)  # noqa: T201 - a campaign's log


def faults(options: argparse.Namespace) -> list[Fault]:
    """Those that this run has."""
    wanted = [Fault[name] for name in options.faults.split(",")] if options.faults else list(Fault)
    return [fault for fault in wanted if options.store != "embedded" or fault not in WITHOUT_STORE]


async def inside(options: argparse.Namespace) -> int:
    """The run itself, where `options.folder`/data is a small disk."""
    print(f"seed {options.seed}", flush=True)  # noqa: T201 - to repeat it
    asyncio.get_running_loop().set_exception_handler(_note)
    began_s = time.monotonic()
    worker = options.worker.split() if options.worker else WORKER
    async with Site(options.folder, options.store, DEVICES, worker) as site:
        report = await Campaign(site, options).run()
        ended = site.ended_by_itself
        said = site.log
    refused = said.count("the spool refused")
    wrong = report.wrong() + [f"the telemetry process ended by itself: exit code {code}" for code in ended]
    figures = {
        **asdict(report),
        "crashes": len(ended),
        "refused_by_the_disk": refused,
        "started_on_full_disk": said.count("cannot be opened: no room on the disk"),
        "store": options.store,
        "seed": options.seed,
    }
    figures |= {"devices": DEVICES, "rounds": options.rounds, "seconds": round(time.monotonic() - began_s, 1)}
    kinds = ("sent", "ok", "recovered", "lost", "missing", "duplicated", "unexpected", "crashes", "refused_by_the_disk",
             "started_on_full_disk")  # fmt: skip
    lines = [f"{kind:>20} {figures[kind]:>8}" for kind in kinds]
    print("\n".join([*lines, *wrong, *([said[-6000:]] if wrong else []), json.dumps(figures)]), flush=True)  # noqa: T201 - the report
    return 1 if wrong else 0


def _note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """aiomqtt asks the loop to watch a socket that its handshake has just closed, once for each try at a broker that is down."""
    error = context.get("exception")
    if not (isinstance(error, OSError) and error.errno == errno.EBADF):
        loop.default_exception_handler(context)


def namespaced(arguments: Sequence[str], folder: Path) -> list[str]:
    """The command that runs the campaign in `folder`, where a tmpfs can be mounted that vanishes with it and nobody else sees."""
    options = parsed(arguments)
    disk = folder / "data"
    disk.mkdir()
    size_mb = DISK_MB + (options.messages * ROOM_BYTES_A_READING // 2**20 if options.store == "embedded" else 0)
    ours = ["-m", "tests.campaigns.set_test", *arguments, "--seed", options.seed, "--folder", str(folder)]
    script = f"mount -t tmpfs -o size={size_mb}m none {shlex.quote(str(disk))} && exec {shlex.join([sys.executable, *ours])}"
    return ["unshare", *(["--mount"] if os.geteuid() == 0 else ["--mount", "--user", "--map-root-user"]), "sh", "-c", script]


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=200_000, help="readings in all (default: %(default)s)")
    parser.add_argument("--seed", default=os.environ.get("IOTCORE_SEED") or secrets.token_hex(4), help="plays a schedule again")
    parser.add_argument("--rounds", type=int, default=6, help="times each fault (default: %(default)s)")
    parser.add_argument("--faults", default="", help=f"only these, joined by commas: {', '.join(f.name for f in Fault)}")
    parser.add_argument("--longest-s", type=float, default=6.0, help="how long a fault lasts at most (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=2_000.0, help="readings a second at most (default: %(default)s)")
    parser.add_argument("--window", type=int, default=60, help="readings a device makes without a receipt (default: %(default)s)")
    parser.add_argument("--resend-s", type=float, default=5.0, help="a device's patience for a receipt (default: %(default)s)")
    parser.add_argument("--settle-s", type=float, default=90.0, help="patience with what does not move (default: %(default)s)")
    parser.add_argument("--store", choices=("influx1", "embedded"), default="influx1")
    parser.add_argument("--worker", default="", help="another telemetry process, as words after `python`")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Make the small disk, then run there."""
    options = parsed(arguments)
    if options.folder:
        logging.getLogger("mqtt").setLevel(logging.CRITICAL)  # clients that lose their links tell at length
        return asyncio.run(inside(options))
    with tempfile.TemporaryDirectory(prefix="set-test-") as name:
        return subprocess.run(namespaced(arguments, Path(name)), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
