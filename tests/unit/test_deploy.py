"""What deploy/ promises, checked without a container engine: every name in it exists and agrees with deploy/iotcore.toml."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from iotcore import metrics_page
from iotcore.cli import PROCESSES, _parser
from iotcore.errors import ConfigError
from iotcore.process.metrics_http import OFFSETS
from iotcore.settings import Settings, load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = DEPLOY / "systemd"
COMMON = UNITS / "iotcore-.service.d" / "10-common.conf"
INSTALLED = "/opt/iotcore/.venv/bin/iotcore"
CONTAINER_CONFIG = "/etc/iotcore/iotcore.toml"
SECRETS = {
    "IOTCORE_CA_PASSPHRASE": "a passphrase of a test",
    "IOTCORE_REGISTRY__URL": "postgres://iotcore:secret@127.0.0.1:5432/iotcore",
    "IOTCORE_STORE__TOKEN": "token",
    "IOTCORE_RECEIVERS__FIRE_CENTRE__KEY": "0123456789ABCDEF",
    "IOTCORE_RECEIVERS__DISPATCH__SECRET": "secret",
}
MOST_EXPOSED = 2.0  # systemd-analyze security: 0 is sealed, 10 is open; above 2 somebody has dropped a line of hardening
ANALYZE = shutil.which("systemd-analyze")


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return document


def ours() -> dict[str, dict[str, Any]]:
    """The services that run our own image."""
    return {name: service for name, service in compose()["services"].items() if "build" in service}


def settings() -> Settings:
    return load(DEPLOY / "iotcore.toml", SECRETS)


def unit(path: Path) -> list[tuple[str, str, str]]:
    """The (section, key, value) of a unit file; a line that is none of systemd's fails."""
    section, found = "", []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert section, line
            assert equals, line
            found.append((section, key, value))
    return found


def values(path: Path, key: str) -> list[str]:
    return [value for _, name, value in unit(path) if name == key]


def services() -> list[Path]:
    return sorted(UNITS.glob("*.service"))


def command_of(line: str) -> str:
    """The process that a command line of iotcore runs, or its noun; a line that iotcore does not know ends the test."""
    options = _parser().parse_args(line.split())
    return str(getattr(options, "process", line.split(maxsplit=1)[0]))


def test_the_configuration_loads_and_every_secret_stands_where_it_belongs() -> None:
    loaded = settings()
    assert loaded.registry_url == SECRETS["IOTCORE_REGISTRY__URL"]
    assert loaded.store.token == SECRETS["IOTCORE_STORE__TOKEN"]
    arc, cad = loaded.receivers
    assert getattr(arc, "key", "") == SECRETS["IOTCORE_RECEIVERS__FIRE_CENTRE__KEY"]
    assert getattr(cad, "secret", "") == SECRETS["IOTCORE_RECEIVERS__DISPATCH__SECRET"]


def test_the_configuration_is_refused_without_its_secrets_rather_than_sent_in_clear() -> None:
    with pytest.raises(ConfigError) as caught:
        load(DEPLOY / "iotcore.toml", {**SECRETS, "IOTCORE_RECEIVERS__FIRE_CENTRE__KEY": "not set"})
    assert [problem.path for problem in caught.value.problems] == ["receivers[0].key"]
    with pytest.raises(ConfigError, match=r"receivers\[1\]\.secret: missing"):
        load(DEPLOY / "iotcore.toml", {})


def test_the_configuration_tells_of_each_secret() -> None:
    text = (DEPLOY / "iotcore.toml").read_text(encoding="utf-8")
    assert set(re.findall(r"^#   (IOTCORE_\w+)", text, re.MULTILINE)) == set(SECRETS)


def test_devices_meet_the_brokers_and_enrolment_but_only_this_machine_meets_the_page() -> None:
    loaded = settings()
    for broker in (loaded.brokers.fire, loaded.brokers.field):
        assert (broker.run, broker.address, broker.host) == ("mosquitto", "0.0.0.0", "127.0.0.1")
        assert broker.names
        assert set(broker.names) <= set(loaded.web.est_names)
    assert loaded.web.est_host == "0.0.0.0"
    assert loaded.web.host == "127.0.0.1"


def test_compose_runs_every_process_once_and_prepares_the_folder_before() -> None:
    commands = [command_of(" ".join(service["command"])) for service in ours().values() if "profiles" not in service]
    assert sorted(commands) == sorted([*PROCESSES, "init"])
    for name, service in ours().items():
        waits = service["depends_on"]
        assert name == "init" or waits["init"]["condition"] == "service_completed_successfully", name
        assert set(waits) <= set(compose()["services"])


def test_every_file_and_volume_that_compose_names_is_there() -> None:
    document = compose()
    for name, service in document["services"].items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), f"{name}: {source}"
            else:
                assert source in document["volumes"], f"{name}: {source}"
        if build := service.get("build"):
            assert ((DEPLOY / build["context"]) / build["dockerfile"]).is_file()


def test_every_variable_that_compose_needs_is_in_the_example_and_none_has_a_value_there() -> None:
    wanted = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text(encoding="utf-8")))
    lines = (DEPLOY / "example.env").read_text(encoding="utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(given) == wanted
    assert set(given.values()) == {""}
    assert "deploy/.env" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


def test_compose_hands_over_the_secrets_that_the_configuration_asks_for() -> None:
    for name, service in ours().items():
        assert set(service["environment"]) == set(SECRETS), name


def test_the_databases_of_compose_are_those_of_the_configuration_and_listen_on_loopback_only() -> None:
    loaded, all_services = settings(), compose()["services"]
    influx, postgres, grafana = (all_services[name] for name in ("influxdb", "postgres", "grafana"))
    published = {name: service["ports"] for name, service in all_services.items() if "ports" in service}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    store, registry = urlsplit(loaded.store.url), urlsplit(loaded.registry_url)
    assert influx["ports"] == [f"{store.hostname}:{store.port}:8086"]
    assert postgres["ports"] == [f"{registry.hostname}:{registry.port}:5432"]
    assert influx["environment"]["DOCKER_INFLUXDB_INIT_ORG"] == loaded.store.org
    assert influx["environment"]["DOCKER_INFLUXDB_INIT_BUCKET"] == loaded.store.database
    assert grafana["environment"]["INFLUX_DATABASE"] == loaded.store.database
    assert postgres["environment"]["POSTGRES_USER"] == registry.username
    assert postgres["environment"]["POSTGRES_DB"] == registry.path.strip("/")
    url = ours()["fire"]["environment"]["IOTCORE_REGISTRY__URL"]
    assert url.startswith(f"postgres://{registry.username}:$")
    assert url.endswith(f"@{registry.hostname}:{registry.port}{registry.path}")


def test_no_port_is_taken_twice() -> None:
    loaded = settings()
    ours_ = [loaded.brokers.fire.port, loaded.brokers.field.port, loaded.web.port, loaded.web.est_port, loaded.web.crl_port]
    theirs = [int(port.split(":")[1]) for service in compose()["services"].values() for port in service.get("ports", [])]
    assert len(set(ours_ + theirs)) == len(ours_ + theirs)


def test_our_containers_can_write_to_the_data_folder_alone() -> None:
    for name, service in ours().items():
        assert service["network_mode"] == "host", name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        writable = [mount.split(":")[1] for mount in service["volumes"] if not mount.endswith(":ro")]
        assert writable == [settings().data], name


def test_the_container_file_installs_by_hash_and_runs_as_nobody_special() -> None:
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
    assert "--require-hashes -r requirements.lock" in text
    assert re.findall(r"^USER (\w+)$", text, re.MULTILINE) == ["iotcore"]
    assert f"IOTCORE_CONFIG={CONTAINER_CONFIG}" in text
    assert f"VOLUME {settings().data}" in text
    assert f"./iotcore.toml:{CONTAINER_CONFIG}:ro" in ours()["fire"]["volumes"]


def test_grafana_finds_the_dashboards_and_their_data_source() -> None:
    grafana = compose()["services"]["grafana"]
    mounts = {target: DEPLOY / source for source, target, *_ in (mount.split(":") for mount in grafana["volumes"])}
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "influxdb2.yaml").read_text(encoding="utf-8"))["datasources"]
    provider = mounts["/etc/grafana/provisioning/dashboards/iotcore.yaml"]
    folder = yaml.safe_load(provider.read_text(encoding="utf-8"))["providers"][0]["options"]["path"]
    dashboards = sorted(mounts[folder].glob("*.json"))
    assert dashboards
    for dashboard in dashboards:
        asked = {variable["name"]: variable for variable in json.loads(dashboard.read_bytes())["templating"]["list"]}
        assert asked["datasource"]["query"] == source["type"], dashboard.name
    wanted = set(re.findall(r"\$([A-Z]\w+)", (DEPLOY / "grafana" / "influxdb2.yaml").read_text(encoding="utf-8")))
    assert wanted <= set(grafana["environment"])


def test_every_process_has_a_unit_that_runs_it() -> None:
    commands = []
    for path in services():
        if "@" in path.name:
            continue
        (line,) = values(path, "ExecStart")
        assert line.startswith(f"{INSTALLED} "), path.name
        commands.append(command_of(line.removeprefix(INSTALLED)))
    assert sorted(commands) == sorted([*PROCESSES, "init"])


def test_a_further_telemetry_worker_runs_as_the_first_does_but_for_its_number() -> None:
    first, further = UNITS / "iotcore-telemetry.service", UNITS / "iotcore-telemetry@.service"
    assert values(further, "ExecStart") == [f"{values(first, 'ExecStart')[0]} --worker %i"]
    assert command_of(values(further, "ExecStart")[0].removeprefix(INSTALLED).replace("%i", "2")) == "telemetry"
    for key in ("Wants", "After", "Type", "Restart", "RestartSec"):
        assert values(further, key) == values(first, key), key
    second = ours()["telemetry-2"]
    assert {**second, "command": second["command"][:2], "profiles": None} == {**ours()["telemetry"], "profiles": None}
    assert command_of(" ".join(second["command"])) == "telemetry"


def test_a_further_fire_replica_runs_as_the_first_does_but_for_its_number() -> None:
    first, further = UNITS / "iotcore-fire.service", UNITS / "iotcore-fire@.service"
    assert values(further, "ExecStart") == [f"{values(first, 'ExecStart')[0]} --worker %i"]
    for key in ("Wants", "After", "Type", "Restart", "RestartSec", "OOMScoreAdjust", "Nice", "CPUWeight", "IOWeight"):
        assert values(further, key) == values(first, key), key


def test_the_scrape_configuration_has_every_process_at_its_port_and_its_rules_ask_for_metrics_that_there_are() -> None:
    folder = DEPLOY / "prometheus"
    document = yaml.safe_load((folder / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = document["scrape_configs"]
    asked = {one["labels"]["process"]: one["targets"] for one in job["static_configs"]}
    assert asked == {name: [f"127.0.0.1:{settings().metrics.port + OFFSETS[name]}"] for name in PROCESSES}
    assert [(folder / name).exists() for name in document["rule_files"]] == [True]
    (group,) = yaml.safe_load((folder / "iotcore-rules.yml").read_text(encoding="utf-8"))["groups"]
    known = {row.name: set(row.labels) for row in metrics_page.rows()}
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["expr"].count("(") == rule["expr"].count(")")
        named = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"iotcore_\w+", rule["expr"])}
        assert named <= set(known) or rule["alert"] == "ProcessDown", rule["alert"]
        labels = {label for name in named for label in known[name]} | {"le", "job", "process"}
        assert set(re.findall(r"(?:\{|, )(\w+)=", rule["expr"])) <= labels
    assert {rule["alert"] for rule in group["rules"]} >= {
        "StoreFallsBehind",
        "ReadingsDropped",
        "FireLatency",
        "FireLaneDisconnected",
    }


def test_the_target_wants_every_process_and_every_process_is_kept_alive() -> None:
    wanted = {name for line in values(UNITS / "iotcore.target", "Wants") for name in line.split()}
    running = {path.name for path in services() if "@" not in path.name} - {"iotcore-init.service"}
    assert wanted == running
    for name in running:
        assert values(UNITS / name, "Restart") == ["always"], name
        assert "iotcore-init.service" in " ".join(values(UNITS / name, "After")), name


def test_no_process_needs_the_preparation_to_succeed_for_a_fire_is_heard_without_it() -> None:
    assert not [path.name for path in services() if values(path, "Requires") or values(path, "BindsTo")]


def test_the_fire_lane_and_its_broker_come_before_all_others() -> None:
    def score(name: str) -> int:
        return int((values(UNITS / f"iotcore-{name}.service", "OOMScoreAdjust") or ["0"])[0])

    assert score("fire") == score("broker-fire") < min(score(name) for name in PROCESSES if name not in {"fire", "broker-fire"})
    assert values(UNITS / "iotcore-fire.service", "CPUWeight") == ["1000"]


def test_units_hand_over_the_secrets_and_the_authoritys_passphrase_only_where_it_is_opened() -> None:
    common = set(values(COMMON, "LoadCredential"))
    opening = {path.stem.removeprefix("iotcore-") for path in services() if values(path, "LoadCredential")}
    assert common | {"IOTCORE_CA_PASSPHRASE"} == set(SECRETS)
    assert opening == {"init", "modbus", "web", "keeper"}
    by_hand = set(re.findall(r"LoadCredential=(\w+)", (UNITS / "iotcore-ctl").read_text(encoding="utf-8")))
    assert by_hand == set(SECRETS) | {"IOTCORE_API_TOKEN"}, "the last is that of whoever calls it"


def test_the_units_write_where_the_configuration_keeps_its_files() -> None:
    assert Path("/var/lib") / values(COMMON, "StateDirectory")[0] == settings().folder
    assert f"IOTCORE_CONFIG={CONTAINER_CONFIG}" in values(COMMON, "Environment")[0].split()


@pytest.mark.parametrize("path", services(), ids=lambda path: path.stem)
def test_systemd_itself_has_nothing_to_say_against_a_unit(path: Path, tmp_path: Path) -> None:
    """With systemd-analyze where there is one; elsewhere the parsing above has to do."""
    assert {section for section, _, _ in unit(path)} <= {"Unit", "Service", "Install"}
    if ANALYZE is None:
        return
    shutil.copytree(UNITS, tmp_path / "units")
    copy = tmp_path / "units" / path.name.replace("@", "@2")  # a template is verified as its second worker
    here = Path(sys.executable).parent / "iotcore"  # verify asks for the program itself
    copy.write_text(path.read_text(encoding="utf-8").replace(INSTALLED, str(here)), encoding="utf-8")
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path / 'units'}:"}
    for command in (["verify", "--man=no"], ["security", "--offline=true", f"--threshold={MOST_EXPOSED * 10:.0f}"]):
        done = subprocess.run([ANALYZE, *command, copy], env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        assert command[0] == "security" or not done.stderr


def test_the_wheel_that_the_container_installs_carries_its_specs_rules_pages_and_schemas(tmp_path: Path) -> None:
    hatchling = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(hatchling, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "wheel", "zip")
    there = {path.relative_to(tmp_path / "wheel").as_posix() for path in (tmp_path / "wheel").rglob("*") if path.is_file()}
    shipped = {f"iotcore/shipped/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "firmware_specs").glob("*.yaml")}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for folder in ("iotcore", "drivers", "simulators")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert shipped | wanted <= there
