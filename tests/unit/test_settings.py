"""Settings: refused whole, every problem at once; the environment overrides without touching files."""

from __future__ import annotations

from pathlib import Path

import pytest

from iotcore.errors import ConfigError, StartError
from iotcore.process.credentials import environment
from iotcore.settings import load
from iotcore.settings_receivers import Dc09Receiver


def write(folder: Path, text: str) -> Path:
    path = folder / "iotcore.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_embedded_and_on_loopback(tmp_path: Path) -> None:
    settings = load(write(tmp_path, 'data = "here"'), {})
    assert settings.store.kind == "embedded"
    assert settings.web.host == settings.brokers.fire.host == "127.0.0.1"
    assert settings.registry_url == "sqlite://here/registry.db"


def test_every_problem_of_a_file_comes_at_once(tmp_path: Path) -> None:
    text = """
    data = 3
    colour = "red"
    [brokers.fire]
    port = 99999
    [store]
    kind = "influx1"
    [[receivers]]
    kind = "sia_dc09"
    name = "arc"
    host = "x"
    """
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), {})
    paths = {problem.path for problem in caught.value.problems}
    assert paths == {"data", "colour", "brokers.fire.port", "receivers[0].port"}


def test_a_key_of_the_wrong_length_a_store_without_url_and_twins_are_refused(tmp_path: Path) -> None:
    receiver = '[[receivers]]\nkind = "sia_dc09"\nname = "arc"\nhost = "x"\nport = 1\nkey = "short"\n'
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, f'data = "d"\n[store]\nkind = "influx2"\n{receiver}{receiver}'), {})
    assert [problem.path for problem in caught.value.problems] == [
        "receivers[0].key", "receivers[1].key", "receivers", "store.url",
    ]  # fmt: skip


def test_the_environment_overrides_and_other_variables_of_ours_do_not_disturb(tmp_path: Path) -> None:
    environment = {
        "IOTCORE_STORE__PASSWORD": "secret",
        "IOTCORE_WEB__PORT": "9000",
        "IOTCORE_DATA": "there",
        "IOTCORE_CA_PASSPHRASE": "not a setting",
        "IOTCORE_CONFIG": "nor this",
    }
    settings = load(write(tmp_path, 'data = "here"'), environment)
    assert (settings.store.password, settings.web.port, settings.data) == ("secret", 9000, "there")


def test_a_misspelt_override_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"web\.prot: unknown key"):
        load(write(tmp_path, 'data = "here"'), {"IOTCORE_WEB__PROT": "1"})


def test_no_file_and_no_toml_are_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read.*--config"):
        load(tmp_path / "none.toml", {})
    with pytest.raises(ConfigError, match="is not TOML"):
        load(write(tmp_path, "data = "), {})


ARC = 'data = "d"\n[[receivers]]\nkind = "sia_dc09"\nname = "arc-1"\nhost = "x"\nport = 1\n'


def test_a_receivers_secret_comes_from_the_environment_by_its_name(tmp_path: Path) -> None:
    settings = load(write(tmp_path, ARC), {"IOTCORE_RECEIVERS__ARC_1__KEY": "0123456789ABCDEF"})
    assert [receiver.name for receiver in settings.receivers] == ["arc-1"]
    assert settings.receivers[0] == Dc09Receiver("arc-1", "x", 1, key="0123456789ABCDEF")


def test_a_secret_for_a_receiver_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="IOTCORE_RECEIVERS__ARK__KEY: no receiver is named 'ark'"):
        load(write(tmp_path, ARC), {"IOTCORE_RECEIVERS__ARK__KEY": "0123456789ABCDEF"})


def test_credentials_of_systemd_are_as_good_as_variables(tmp_path: Path) -> None:
    (tmp_path / "IOTCORE_STORE__TOKEN").write_text("from-a-file\n")
    (tmp_path / "somebody-elses").write_bytes(b"\xff")
    found = environment({"CREDENTIALS_DIRECTORY": str(tmp_path), "IOTCORE_STORE__TOKEN": "x", "IOTCORE_DATA": "there"})
    assert (found["IOTCORE_STORE__TOKEN"], found["IOTCORE_DATA"]) == ("from-a-file", "there")
    assert "somebody-elses" not in found
    assert environment({"A": "b"}) == {"A": "b"}


def test_a_credential_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "IOTCORE_STORE__TOKEN").write_bytes(b"\xff")
    with pytest.raises(StartError, match="cannot be read"):
        environment({"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_a_broker_listens_where_it_is_told_and_is_met_where_its_certificate_says(tmp_path: Path) -> None:
    text = 'data = "d"\n[brokers.fire]\nport = 1\nlisten = "0.0.0.0"\nnames = ["iot.example"]\n'
    brokers = load(write(tmp_path, text), {}).brokers
    assert (brokers.fire.host, brokers.fire.address, brokers.fire.names) == ("127.0.0.1", "0.0.0.0", ["iot.example"])
    assert brokers.field.address == "127.0.0.1"
