"""What every test run promises: deterministic properties, no process left behind, and in CI no file outside its own folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# hypothesis reads its folder from the environment when it is imported
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(Path(__file__).parents[1] / ".venv" / "cache" / "hypothesis"))

import psutil
import pytest
from hypothesis import settings

from tests.support import commands

settings.register_profile("iotcore", database=None, deadline=None, derandomize=True, max_examples=100)
settings.register_profile("soak", database=None, deadline=None, max_examples=5000)
settings.load_profile("soak" if os.environ.get("IOTCORE_SOAK") else "iotcore")


ROOT = Path(__file__).parents[1]
OURS = {".git", ".venv"}
BEFORE = pytest.StashKey[set[Path]]()
LEFT = "left_behind"
LEFT_BY_WORKERS = pytest.StashKey[list[str]]()


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command that quiets its own process, called by a test, quiets no test after it."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


def _files() -> set[Path]:
    """Every file of the checkout but git's own and the environment's."""
    return {
        Path(folder) / name
        for top in ROOT.iterdir()
        if top.name not in OURS
        for folder, _, names in (os.walk(top) if top.is_dir() else [(str(ROOT), [], [top.name])])
        for name in names
        if "__pycache__" not in folder
    }


def pytest_sessionstart(session: pytest.Session) -> None:
    """Remember what lies in the checkout."""
    if not _is_worker(session.config):
        session.config.stash[BEFORE] = _files()


@pytest.hookimpl(trylast=True)  # pytest-xdist has ended its workers by then
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test that leaves a process behind fails the run, by name; so does, in CI, one that leaves a file in the checkout."""
    commands.end()
    left = _end_what_is_left(session.config)
    if _is_worker(session.config):
        session.config.workeroutput[LEFT] = left  # type: ignore[attr-defined] # pytest-xdist's way to the controller
        return
    by_workers: list[str] = session.config.stash.get(LEFT_BY_WORKERS, [])
    left += by_workers
    before = session.config.stash[BEFORE]
    strewn = _files() - before if os.environ.get("CI") else set()
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    for what, found in (("files", [str(path) for path in sorted(strewn)]), ("processes", left)):
        if found:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            if reporter is not None:
                reporter.write_line(f"{what} left behind: {', '.join(found)}", red=True)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist has ended: keep what it says was left behind."""
    node.config.stash.setdefault(LEFT_BY_WORKERS, []).extend(getattr(node, "workeroutput", {}).get(LEFT, []))


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _end_what_is_left(config: pytest.Config) -> list[str]:
    """Kill our children, and whatever works in our temporary folder; what they were."""
    left = [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    base = getattr(config, "_tmp_path_factory", None)
    folder = str(base.getbasetemp()) if base is not None else None
    for process in psutil.process_iter(["pid", "cmdline"]):
        if folder and process.pid != os.getpid() and any(folder in word for word in process.info["cmdline"] or ()):
            left += [process]
    names = [f"{process.pid} {process.name()}" for process in left]
    for process in left:
        process.kill()
    return names
