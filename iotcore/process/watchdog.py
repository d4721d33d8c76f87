"""The watchdog of a process that consumes: when its event loop or a lane stands still, it ends the process, to be started anew.

    lane: takes, acknowledges, says that it works ──► event loop looks, twice a second ──► thread ──► is it the disk?
                                                        tick of the loop itself ─────────────┘          │ no
                                                                       stacks to stderr, exit EXIT_STALLED ◄┘

A false restart of the fire process is worse than a late one. So time is only counted while we run ourselves: looks of the loop
for a lane, the thread's own short rounds for the loop. A machine that slept, a process that was stopped, a long collection of
garbage let neither count. And while the disk does not answer, nobody is restarted: the next process could not write either.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

log = logging.getLogger(__name__)

LOOK_S = 0.5
LANE_LIMIT_S = 5.0  # a heartbeat comes every 2 s: with it, the disk's answer and a start, a lane is back within 10 s
FIRST_LIMIT_S = 60.0  # until a lane's first turn: it may read 100,000 devices before that
LOOP_LIMIT_S = 7.0
DISK_LIMIT_S = 1.0  # an fdatasync takes a quarter of a millisecond; a disk that needs this long is in trouble of its own
LAST_WORDS_S = 1.0  # for the stacks: the pipe they go to may be what we are stuck on
EXIT_STALLED = 75  # EX_TEMPFAIL of sysexits.h: trying again may help


class Lane(Protocol):
    """What is watched (`drivers.mqtt.ingest.Ingest`)."""

    turns: int

    @property
    def holding(self) -> bool:
        """Whether there is something for the lane to do."""


class Watchdog:
    """Watches the loop that `run` runs on. `folder` is on the disk that the lanes write to; `end` ends the process."""

    def __init__(self, folder: Path, lanes: Mapping[str, Lane], end: Callable[[int], None] = os._exit) -> None:
        self._probe_file = folder / "run" / f"watchdog-{os.getpid()}"
        self._lanes = lanes
        self._end = end
        self._seen = {name: lane.turns for name, lane in lanes.items()}
        self._still = dict.fromkeys(lanes, 0)  # looks in a row that found a lane with work and no turn
        self._ticks = 0
        self._stalled = ""  # the lane that stands still
        self._stopped = threading.Event()
        self._probe: threading.Thread | None = None

    async def run(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._watch, args=(loop,), name="watchdog", daemon=True).start()
        try:
            while True:
                self.look()
                self._ticks += 1
                await asyncio.sleep(LOOK_S)
        finally:
            self._stopped.set()
            self._probe_file.unlink(missing_ok=True)

    def look(self) -> str:
        """Look at each lane once; the name of one that stands still, else ""."""
        stalled = ""
        for name, lane in self._lanes.items():
            standing = lane.holding and lane.turns == self._seen[name]
            self._still[name] = self._still[name] + 1 if standing else 0
            self._seen[name] = lane.turns
            limit_s = LANE_LIMIT_S if lane.turns else FIRST_LIMIT_S
            if self._still[name] * LOOK_S >= limit_s:
                stalled = name
        self._stalled = stalled
        return stalled

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """The thread: counts its own rounds in which the loop has not ticked."""
        seen, still_s, last_s, said = -1, 0.0, time.monotonic(), False
        while not self._stopped.wait(LOOK_S):
            now_s = time.monotonic()
            still_s = still_s + min(now_s - last_s, 2.0 * LOOK_S) if seen == self._ticks else 0.0
            seen, last_s = self._ticks, now_s
            if not self._stalled and still_s < LOOP_LIMIT_S:
                said = False
            elif not self._disk_answers():
                if not said:
                    log.critical("the disk does not answer; a restart would not help")
                said = True
            elif self._stalled or seen == self._ticks:
                self._give_up(loop, f"the lane {self._stalled}" if self._stalled else "the event loop")
                return

    def _disk_answers(self) -> bool:
        """Whether a file can be written, or is refused, in time. A disk that still owes an answer is not asked again."""
        if self._probe is None or not self._probe.is_alive():
            self._probe = threading.Thread(target=self._write_probe, name="watchdog's probe of the disk", daemon=True)
            self._probe.start()
        self._probe.join(DISK_LIMIT_S)
        return not self._probe.is_alive()

    def _write_probe(self) -> None:
        with contextlib.suppress(OSError), self._probe_file.open("wb") as file:  # a full disk is an answer too
            file.write(b"\0")
            file.flush()
            os.fsync(file.fileno())

    def _give_up(self, loop: asyncio.AbstractEventLoop, what: str) -> None:
        """Say where everything stands, and end the process, whatever becomes of the words."""
        last_words = threading.Thread(target=_say, args=(loop, what), daemon=True)
        last_words.start()
        last_words.join(LAST_WORDS_S)
        self._end(EXIT_STALLED)


def _say(loop: asyncio.AbstractEventLoop, what: str) -> None:
    log.critical("%s stands still; the process ends with %d, to be started again. Where it stands:", what, EXIT_STALLED)
    with contextlib.suppress(OSError, ValueError, AttributeError):  # stderr may be gone, or no file
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
    with contextlib.suppress(RuntimeError):  # the loop's set of tasks may change meanwhile
        for task in asyncio.all_tasks(loop):
            task.print_stack(limit=3, file=sys.stderr)
