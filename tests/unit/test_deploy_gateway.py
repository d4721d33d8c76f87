"""What deploy/gateway/ promises: its settings load, its units are known, its unit file is one that systemd accepts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from iotcore.gateway.units import read
from iotcore.settings import Settings, load
from tests.support.shipped import SPECS
from tests.unit.test_deploy import ANALYZE, CONTAINER_CONFIG, INSTALLED, ROOT, unit, values

DEPLOY = ROOT / "deploy" / "gateway"
SERVICE = DEPLOY / "iotcore-gateway.service"
TOKENS = {"IOTCORE_GATEWAY__FIRE_TOKEN": "one", "IOTCORE_GATEWAY__FIELD_TOKEN": "two"}
MOST_EXPOSED = 2.5  # a little above the core's services: it may open serial lines


def settings() -> Settings:
    return load(DEPLOY / "iotcore.toml", TOKENS)


def test_the_settings_of_a_site_load_and_take_both_tokens_from_outside() -> None:
    loaded = settings()
    assert loaded.gateway is not None
    assert (loaded.gateway.id, loaded.gateway.fire_token, loaded.gateway.field_token) == ("gw-7", "one", "two")
    assert {loaded.brokers.fire.run, loaded.brokers.field.run} == {"external"}
    assert loaded.outbox == Settings(data="").outbox
    named = re.findall(r"^#   (IOTCORE_\w+)", (DEPLOY / "iotcore.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert named == list(TOKENS)


def test_the_example_of_units_is_one_that_is_accepted() -> None:
    loaded = settings().gateway
    assert loaded is not None
    assert Path(loaded.units).name == "units.yaml"
    assert set(read(DEPLOY / "units.yaml", loaded.id, SPECS).devices) == {"air-7", "water-7"}


def test_the_unit_runs_the_gateway_where_its_settings_keep_their_files() -> None:
    assert values(SERVICE, "ExecStart") == [f"{INSTALLED} run modbus"]
    assert values(SERVICE, "Restart") == ["always"]
    assert Path("/var/lib") / values(SERVICE, "StateDirectory")[0] == settings().folder
    assert f"IOTCORE_CONFIG={CONTAINER_CONFIG}" in values(SERVICE, "Environment")[0].split()
    assert values(SERVICE, "LoadCredential") == list(TOKENS)


def test_systemd_itself_has_nothing_to_say_against_the_unit(tmp_path: Path) -> None:
    assert {section for section, _, _ in unit(SERVICE)} == {"Unit", "Service", "Install"}
    if ANALYZE is None:
        return
    copy = tmp_path / SERVICE.name
    copy.write_text(
        SERVICE.read_text(encoding="utf-8").replace(INSTALLED, str(Path(sys.executable).parent / "iotcore")), encoding="utf-8"
    )
    for command in (["verify", "--man=no"], ["security", "--offline=true", f"--threshold={MOST_EXPOSED * 10:.0f}"]):
        done = subprocess.run([ANALYZE, *command, copy], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
