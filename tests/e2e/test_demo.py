"""The demo as a person meets it: one command, one fire, Ctrl-C, and the next day from where it stood."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from simulators import city
from tests.support.demo import Demo, once
from tests.support.services import require

pytestmark = [pytest.mark.timeout(240)]

MOMENTS = ["detector", "received", "decided", "durable", "sent", "receiver_acknowledged"]
CITY = city.document()
TOLD = "from the detector to its acknowledgement"

Burnt = tuple[Demo, dict[str, Any]]


@pytest.fixture(scope="module")
def burnt(tmp_path_factory: pytest.TempPathFactory) -> Burnt:
    """One fire in a fresh folder, as `make demo ONCE=1 JSON=1`; it has ended."""
    require("mosquitto")
    return once(tmp_path_factory.mktemp("demo") / "data")


def test_one_fire_is_one_incident_told_in_milliseconds(burnt: Burnt) -> None:
    said = burnt[1]
    assert re.fullmatch(r"F\d{8}-\d{6}-[0-9A-F]{6}", said["incident"])
    assert (said["incidents_opened"], said["incidents_acknowledged_by_receiver"]) == (1, 1)
    assert list(said["moments_ms"]) == MOMENTS
    moments = list(said["moments_ms"].values())
    assert moments == sorted(moments)
    steps = [said["latencies_ms"][f"{before}_to_{after}"] for before, after in pairwise(MOMENTS)]
    assert steps == pytest.approx([after - before for before, after in pairwise(moments)], abs=0.002)
    assert said["latencies_ms"]["detector_to_receiver_acknowledged"] == pytest.approx(sum(steps), abs=0.01)
    assert said["notice"]["premises_name"] in {entry["name"] for entry in CITY["premises"]}


def test_one_fire_leaves_one_incident_in_the_journal_and_no_process(burnt: Burnt) -> None:
    demo, said = burnt
    assert demo.incidents() == {said["incident"]: said["premises"]}
    assert demo.living() == []


@pytest.fixture(scope="class")
def again(burnt: Burnt) -> Iterator[tuple[Demo, dict[Path, int]]]:
    """The same folder, started again and left running; and when its devices' certificates were written before that."""
    certificates = written(burnt[0].folder)
    with Demo(burnt[0].folder) as demo:
        demo.until_up()
        yield demo, certificates
        assert demo.stop(signal.SIGINT) == 0


@pytest.fixture
def demo(again: tuple[Demo, dict[Path, int]]) -> Demo:
    """The one that runs."""
    return again[0]


class TestTheNextStart:
    """What it shows while it runs."""

    def test_it_goes_on_from_the_folder_and_another_premises_burns(
        self, again: tuple[Demo, dict[Path, int]], burnt: Burnt
    ) -> None:
        demo, certificates = again
        assert len(certificates) > 250
        assert written(demo.folder) == certificates
        demo.until(lambda: len(demo.incidents()) == 2, "a second incident", 90.0)
        assert next(iter(demo.incidents())) == burnt[1]["incident"]
        assert len(set(demo.incidents().values())) == 2

    def test_every_device_of_the_city_has_values(self, demo: Demo) -> None:
        count = "SELECT substr(device, 1, 2), count(DISTINCT device) FROM latest WHERE value IS NOT NULL GROUP BY 1"
        detectors = [entry for entry in CITY["devices"] if entry["model"] == city.DETECTOR_MODEL]
        everyone = {"sd": len(detectors), "aq": 10, "wq": 10, "tl": 188}
        assert len(detectors) >= 60
        assert all(entry["zone"] for entry in detectors)
        assert len({entry["premises"] for entry in detectors}) >= 20
        demo.until(lambda: dict(demo.rows("telemetry.db", count)).items() >= everyone.items(), "values of every device")

    def test_the_page_shows_the_devices_and_the_fires(self, demo: Demo, burnt: Burnt) -> None:
        demo.until(lambda: len(demo.incidents()) == 2, "a second incident", 90.0)
        demo.until(lambda: all(incident in demo.page() for incident in demo.incidents()), "both incidents on the page", 5.0)
        page = demo.page()
        assert burnt[1]["notice"]["premises_name"] in page
        assert [name for name in ("sd-0001", "aq-01", "wq-10", "tl-188") if name not in page] == []

    def test_the_terminal_tells_the_fire_moment_by_moment(self, demo: Demo) -> None:
        demo.until(lambda: TOLD in demo.out, "a timeline", 90.0)
        for name in ("detector", "received", "decided", "durable", "sent", "acknowledged by receiver"):
            assert re.search(rf"^ +\d\d:\d\d:\d\d\.\d\d\d .*{name}", demo.out, re.MULTILINE), demo.out


@pytest.mark.parametrize(
    ("number", "code", "within_s"), [(signal.SIGINT, 0, 0.5), (signal.SIGTERM, 0, 0.5), (signal.SIGKILL, -9, 8)]
)
def test_a_signal_ends_everything_and_leaves_no_process(burnt: Burnt, number: signal.Signals, code: int, within_s: float) -> None:
    with Demo(burnt[0].folder) as demo:
        demo.until_up()
        assert len(demo.living()) >= 8
        assert demo.stop(number) == code
        demo.until_gone(within_s)
    assert "Traceback" not in demo.out + demo.err
    assert "killed" not in demo.log()


def test_a_process_that_hangs_is_killed_and_an_impatient_second_ctrl_c_changes_nothing(burnt: Burnt) -> None:
    with Demo(burnt[0].folder) as demo:
        demo.until_up()
        pid = demo.pid("telemetry")
        os.kill(pid, signal.SIGSTOP)
        demo.process.send_signal(signal.SIGINT)
        demo.until(lambda: "Stopping" in demo.out, "a word about stopping")
        assert demo.stop(signal.SIGINT) == 0
        demo.until_gone(0.5)
    assert f"telemetry (process {pid}) did not end" in demo.log()


def test_two_demos_do_not_share_a_folder(burnt: Burnt) -> None:
    with Demo(burnt[0].folder) as demo:
        demo.until(lambda: "registry" in demo.out, "the first steps")
        second = Demo(burnt[0].folder)
        assert second.wait(20) == 1
        assert second.err == f"iotcore: Another iotcore runs in {demo.folder}. Stop it first, or choose another data folder.\n"


def test_an_interrupted_fire_is_no_success(burnt: Burnt) -> None:
    with Demo(burnt[0].folder, "--once") as demo:
        demo.until_up()
        assert demo.stop(signal.SIGINT) == 130
        demo.until_gone(0.5)


def written(folder: Path) -> dict[Path, int]:
    """When each device's certificate was written, ns."""
    return {path: path.stat().st_mtime_ns for path in (folder / "devices").glob("*.pem")}
