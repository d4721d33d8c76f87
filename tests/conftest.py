"""What every test run promises: deterministic properties, and no process left behind."""

from __future__ import annotations

import os

import psutil
import pytest
from hypothesis import settings

settings.register_profile("iotcore", database=None, deadline=None, derandomize=True, max_examples=100)
settings.register_profile("soak", database=None, deadline=None, max_examples=5000)
settings.load_profile("soak" if os.environ.get("IOTCORE_SOAK") else "iotcore")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test that leaves a process behind fails the run, by name."""
    left = [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    base = getattr(session.config, "_tmp_path_factory", None)
    folder = str(base.getbasetemp()) if base is not None else None
    for process in psutil.process_iter(["pid", "cmdline"]):
        if folder and process.pid != os.getpid() and any(folder in word for word in process.info["cmdline"] or ()):
            left += [process]
    if left:
        names = ", ".join(f"{process.pid} {process.name()}" for process in left)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"processes left behind: {names}", red=True)
        for process in left:
            process.kill()
