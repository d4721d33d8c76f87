"""What stands in the way of a demo is said in one line that names the thing and the remedy, and ends with an exit code."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
SETUP = """
import sys, runpy
sys.argv = ["setup.py", sys.argv[1]]
{before}
runpy.run_path({setup!r}, run_name="__main__")
"""


def demo(*options: str) -> str:
    """The one line that a demo says when it does not start."""
    done = commands.run("demo", "--port", str(free_port()), *options)
    assert done.returncode == 1, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def test_a_taken_page_port_is_named_with_another_to_take(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = demo("--data", str(tmp_path / "data"), "--port", str(port))
    assert line.startswith(f"iotcore: Port {port} on 127.0.0.1 cannot be used: Address already in use.")
    assert "make demo PORT=" in line
    assert not (tmp_path / "data").exists()


def test_a_port_that_does_not_exist_is_named(tmp_path: Path) -> None:
    assert demo("--data", str(tmp_path / "data"), "--port", "70000").startswith("iotcore: There is no port 70000.")


def test_a_folder_that_cannot_be_written_is_named_with_another_to_take(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    folder = tmp_path / "data" if os.geteuid() else Path("/sys/kernel")  # where root cannot write either
    line = demo("--data", str(folder))
    tmp_path.chmod(0o700)
    assert line.startswith(f"iotcore: The data folder {folder} cannot be written: Permission denied.")
    assert "--data" in line


def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    assert demo("--data", str(tmp_path / "data")).startswith(f"iotcore: The data folder {tmp_path}/data cannot be written: ")
    assert demo("--data", str(tmp_path / "data/below")).startswith(f"iotcore: The data folder {tmp_path}/data/below cannot be")


def test_a_replay_of_a_file_that_is_not_there_or_lacks_a_column_is_refused_before_anything_starts(tmp_path: Path) -> None:
    missing, other = tmp_path / "missing.csv", tmp_path / "other.csv"
    other.write_text("TIME,SMOKE\n0,0.0\n")
    assert "missing.csv: cannot be read: No such file or directory" in demo("--replay", str(missing))
    line = demo("--replay", str(other), "--smoke", "SMOKE", "--temperature", "TCA_1")
    assert "TCA_1: no such column; the file has: TIME, SMOKE" in line


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (
            "sys.version_info = (3, 9, 2)",
            "setup: Python 3.9 is too old; iotcore needs 3.11 or newer. Install a newer",
        ),
        (
            "sys.modules['venv'] = None",
            "setup: this Python has no module 'venv'. On Debian or Ubuntu: apt-get install",
        ),
        ("sys.modules['sqlite3'] = None", "setup: this Python has no module 'sqlite3'. On Debian or Ubuntu: apt-get install"),
        ("sys.modules['ssl'] = None", "setup: this Python has no module 'ssl'. On Debian or Ubuntu: apt-get install"),
        ("import sqlite3; sqlite3.sqlite_version_info = (3, 31, 1)", "setup: SQLite "),
    ],
)
def test_a_python_that_lacks_something_is_told_by_set_up_before_it_makes_anything(tmp_path: Path, before: str, said: str) -> None:
    code = SETUP.format(before=before, setup=str(ROOT / "deploy" / "setup.py"))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "venv")], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(said)
    assert not (tmp_path / "venv").exists()


def test_make_hands_its_options_to_the_demo() -> None:
    asked = ["demo", "ONCE=1", "JSON=1", "REPLAY=fire.csv", "SPEED=20", "PORT=8181"]
    said = subprocess.run(
        ["make", "-n", "--no-print-directory", "-o", ".venv/.ready", *asked],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=True,
    ).stdout.replace("\\\n", "")  # fmt: skip
    options = "--data .demo --once --json --replay fire.csv --speed 20 --port 8181"
    assert said.split() == [".venv/bin/iotcore", "demo", *options.split()]
