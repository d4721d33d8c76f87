"""The house rules that no tool of ours checks: what stands in the repository, how long it is, and what must never stand there."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import msgspec
import pytest

from iotcore.settings import Settings, check
from tests.support.services import PACKAGES

ROOT = Path(__file__).parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
OLDEST_PYTHON = (3, 11)

# Each with a class of one letter, so that this file does not hold what it looks for.
NEVER = {
    "a package index": r"[p]ypi\.org|[p]ythonhosted|--(?:extra-)?[i]ndex-url|[n]pmjs",
    "a path of somebody's machine": r"(?<![\w.~-])/(?:[w]ork|[r]oot|[h]ome/\w+|[t]mp/plan)/",
    "a workplace": r"(?i)\b(?:[a]nthropic|[c]laude|[o]penai|[c]hatgpt|[s]ub-?agent|[h]elper agent|[l]anguage model|[L]LM)\b",
}


@cache
def files() -> tuple[Path, ...]:
    """Everything that is committed and still there."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(path for name in names.split("\0") if name and (path := ROOT / name).is_file())


def modules() -> list[Path]:
    return [path for path in files() if path.suffix == ".py"]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), name(path), feature_version=OLDEST_PYTHON)


@pytest.mark.parametrize(("what", "pattern"), NEVER.items(), ids=NEVER)
def test_no_file_names_what_belongs_to_a_workplace(what: str, pattern: str) -> None:
    found = []
    for path in files():
        content = path.read_bytes()
        if b"\0" not in content:
            lines = content.decode("utf-8").splitlines()
            found += [f"{name(path)}:{number}: {line[:120]}" for number, line in enumerate(lines, 1) if re.search(pattern, line)]
    assert not found, f"{what}:\n" + "\n".join(found)


def test_every_module_is_python_of_the_oldest_version_and_says_what_it_is_for() -> None:
    silent = [name(path) for path in modules() if not ast.get_docstring(tree(path)) and path.stat().st_size]
    assert not silent


def test_no_file_and_no_function_is_too_long_to_read() -> None:
    long = [f"{name(path)}: {count}" for path in modules() if (count := len(path.read_text().splitlines())) > MAX_FILE_LINES]
    for path in modules():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = (node.end_lineno or node.lineno) - node.lineno + 1
                long += [f"{name(path)}:{node.lineno} {node.name}: {count}"] if count > MAX_FUNCTION_LINES else []
    assert not long


def test_the_lock_has_a_hash_for_every_entry_and_names_no_host() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", lock, flags=re.MULTILINE).strip())
    assert len(entries) > 50
    for entry in entries:
        assert re.match(r"[a-z0-9][a-z0-9.-]*==\S+( ; [^\\]+?)? \\\n", entry), entry.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]
    assert "://" not in lock
    assert not re.search(r"^-", lock, re.MULTILINE)


def test_the_packages_that_tests_ask_for_are_those_that_ci_installs() -> None:
    script = (ROOT / ".ci" / "services").read_text(encoding="utf-8")
    listed = re.search(r"^services='(.*?)'", script, re.MULTILINE | re.DOTALL)
    assert listed is not None
    rows = [line.split() for line in listed.group(1).splitlines()]
    assert {row[0]: row[-1] for row in rows} == PACKAGES


def test_the_defaults_are_settings_that_would_be_accepted() -> None:
    defaults = Settings(data="somewhere")
    assert check(msgspec.to_builtins(defaults), "defaults") == defaults
