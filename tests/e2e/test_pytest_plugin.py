"""The public pytest plugin as a maker uses it: iotcore from its wheel, the page's own examples, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_docs import DOCS, blocks
from tests.unit.test_house import ROOT

pytestmark = pytest.mark.timeout(600)
PAGE = DOCS / "testing-your-integration.md"
EXAMPLES = {words: block for words, block in blocks(PAGE, "python") if words}
GUARD = """
import sys
from pathlib import Path

def pytest_sessionfinish(session):
    site = Path(__file__).parent / "site"
    packages = {"iotcore", "drivers", "simulators"}
    ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in packages}
    assert {"iotcore", "simulators.town"} <= set(ours)
    assert all(site in Path(module.__file__ or site / "x").parents for module in ours.values())
    assert not any(name == "tests" or name.startswith("tests.") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with iotcore's wheel unpacked in `site`; what it depends on is this environment's."""
    folder = tmp_path_factory.mktemp("maker")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    shutil.unpack_archive(wheel, folder / "site", "zip")
    return folder


def maker_runs(folder: Path, *options: str) -> tuple[int, str]:
    """Exit code and output of a maker's own pytest in `folder`; every warning is an error."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_"))}
    environment["PYTHONPATH"] = str(folder / "site")
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:timeout"]
    command += ["--basetemp", str(folder / "tmp"), "--rootdir", str(folder), "-c", os.devnull, "-v", *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=540, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_examples_of_the_page_pass_for_one_who_has_installed_iotcore(installed: Path) -> None:
    assert {"conftest.py", "test_alert.py", "test_firmware.py", "test_faults.py", "test_bus_and_city.py"} == set(EXAMPLES)
    for name, block in EXAMPLES.items():
        (installed / name).write_text(block + (GUARD if name == "conftest.py" else ""), encoding="utf-8")
    assert (installed / "site" / "simulators" / "scenarios" / "kitchen-fire.yaml").exists()
    code, said = maker_runs(installed)
    assert code == 0, said
    asked = sum(len(re.findall(r"^def test_", block, re.MULTILINE)) for block in EXAMPLES.values())
    assert f"{asked} passed" in said


def test_a_test_that_waits_in_vain_is_told_what_there_was(installed: Path, tmp_path: Path) -> None:
    folder = tmp_path
    (folder / "site").symlink_to(installed / "site")
    (folder / "conftest.py").write_text(EXAMPLES["conftest.py"])
    (folder / "test_vain.py").write_text(
        "def test_no_smoke(simulated_device, iotcore_platform):\n"
        "    detector = simulated_device('iotcore-smoke-heat', name='quiet-1')\n"
        "    detector.report(smoke=0.01)\n"
        "    detector.wait_receipted()\n"
        "    iotcore_platform.wait_for_incident(device='quiet-1', within_s=0.5)\n\n\n"
        "def test_unknown_model(simulated_device):\n"
        "    simulated_device('no-such-model')\n"
    )
    code, said = maker_runs(folder)
    assert code == 1
    assert "2 failed" in said
    assert re.search(r"NotInTime: no fire at place-\d+ within 0\.5 s; the centre has \[\]", said)
    assert "There is no model 'no-such-model'. Known are:" in said
