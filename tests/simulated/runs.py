"""Many runs, one after the other or on every core."""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulated.play import play
from tests.simulated.replica import Variant
from tests.simulated.script import write

GARBAGE = (50_000, 20, 50)  # a run makes and drops tens of thousands of futures; the collector's own limits cost a tenth of it
AT_ONCE = 100  # runs that a process is given


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A city's worth of broken things is not news."""
    limits = gc.get_threshold()
    logging.disable(logging.CRITICAL)
    gc.set_threshold(*GARBAGE)
    try:
        yield
    finally:
        gc.set_threshold(*limits)
        logging.disable(logging.NOTSET)


def broken(seeds: range, variant: Variant | None = None) -> dict[int, list[str]]:
    """What of these runs should not have happened, by seed."""
    with quiet():
        return {seed: outcome.broken for seed in seeds if (outcome := play(write(seed), variant)).broken}


def broken_on_every_core(first: int, count: int) -> dict[int, list[str]]:
    """The same of many runs."""
    parts = [range(at, min(at + AT_ONCE, first + count)) for at in range(first, first + count, AT_ONCE)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as processes:
        return {seed: what for part in processes.map(broken, parts) for seed, what in part.items()}
