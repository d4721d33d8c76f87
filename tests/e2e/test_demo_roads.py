"""Other ways to the demo's fire, each from nothing: embedded brokers, a measured fire, and Ctrl-C during the set-up."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.demo import Demo, once
from tests.support.services import require

pytestmark = [pytest.mark.timeout(240)]

FIRES = Path(os.environ.get("IOTCORE_FIRE_DATA", Path(__file__).parents[2].parent / "shared/data/fire"))


def test_the_basic_road_works_on_embedded_brokers_and_says_aloud_what_they_are_not_for(tmp_path: Path) -> None:
    demo, said = once(tmp_path / "data", "--brokers", "amqtt")
    assert "NOT FOR REAL ALARMS" in demo.err
    assert demo.incidents() == {said["incident"]: said["premises"]}
    assert demo.living() == []


@pytest.mark.skipif(not FIRES.exists(), reason="the measured fires are not here")
def test_a_measured_fire_is_one_incident(tmp_path: Path) -> None:
    demo, said = once(tmp_path / "data", "--replay", str(FIRES / "nist_sdc02.csv"), "--speed", "20")
    assert demo.incidents() == {said["incident"]: said["premises"]}
    assert "nist_sdc02.csv" in demo.err


@pytest.mark.parametrize(
    "sign", ["log/iotcore.log", "registry.db", "broker/fire/mosquitto.pid", "run/fire.json", "devices/*.pem"]
)
def test_ctrl_c_during_set_up_leaves_no_process(tmp_path: Path, sign: str) -> None:
    require("mosquitto")
    with Demo(tmp_path / "data") as demo:
        demo.until(lambda: any(demo.folder.glob(sign)), sign)
        assert demo.stop(signal.SIGINT) == 0
        demo.until_gone(0.5)
    assert "Traceback" not in demo.out + demo.err
