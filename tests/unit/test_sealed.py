"""Secrets of receivers: sealed at rest, opened by the right key alone, never seen in between."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest

from iotcore.app.receivers import with_secrets
from iotcore.dispatch.sealed import VARIABLE, Sealed
from iotcore.errors import ConfigError, StartError
from iotcore.settings import check, load
from iotcore.settings_receivers import Dc09Receiver, WebhookReceiver

PLANTED = "PLANTED-KEY-0123"
PASSPHRASE = {VARIABLE: "a passphrase of the fire service"}

both = pytest.mark.parametrize("environment", [{}, PASSPHRASE], ids=["key-file", "passphrase"])


@both
def test_what_is_set_can_be_opened_listed_replaced_and_removed(tmp_path: Path, environment: dict[str, str]) -> None:
    sealed = Sealed(tmp_path, environment)
    assert sealed.names() == []
    sealed.set("arc-key", PLANTED)
    sealed.set("cad", "bí mật của trung tâm")
    again = Sealed(tmp_path, environment)
    assert again.names() == ["arc-key", "cad"]
    assert (again.plain("arc-key"), again.plain("cad")) == (PLANTED, "bí mật của trung tâm")
    again.set("cad", "another")
    assert sealed.plain("cad") == "another"
    assert again.remove("cad")
    assert not again.remove("cad")
    assert sealed.names() == ["arc-key"]


@both
def test_no_file_holds_a_secret_and_none_can_be_read_by_others(tmp_path: Path, environment: dict[str, str]) -> None:
    Sealed(tmp_path, environment).set("arc-key", PLANTED)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == (1 if environment else 2)
    for path in files:
        assert PLANTED.encode() not in path.read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700


def test_another_key_opens_nothing_and_seals_nothing_beside_it(tmp_path: Path) -> None:
    Sealed(tmp_path, PASSPHRASE).set("arc-key", PLANTED)
    stranger = Sealed(tmp_path, {VARIABLE: "somebody else's passphrase"})
    for act in (lambda: stranger.plain("arc-key"), lambda: stranger.set("other", "x")):
        with pytest.raises(StartError, match="sealed with another key") as caught:
            act()
        assert PLANTED not in str(caught.value)
    assert Sealed(tmp_path, PASSPHRASE).names() == ["arc-key"]


def test_a_secret_cannot_be_put_in_place_of_another(tmp_path: Path) -> None:
    sealed = Sealed(tmp_path, {})
    sealed.set("one", PLANTED)
    sealed.set("two", "the other")
    file = tmp_path / "secrets" / "sealed.json"
    content = msgspec.json.decode(file.read_bytes())
    content["secrets"]["two"] = content["secrets"]["one"]
    file.write_bytes(msgspec.json.encode(content))
    with pytest.raises(StartError, match="sealed with another key"):
        sealed.plain("two")


def test_a_key_that_others_can_read_or_that_is_gone_is_said(tmp_path: Path) -> None:
    sealed = Sealed(tmp_path, {})
    sealed.set("arc-key", PLANTED)
    key = tmp_path / "secrets" / "key"
    key.chmod(0o644)
    with pytest.raises(StartError, match="can be read by others"):
        sealed.plain("arc-key")
    key.unlink()
    with pytest.raises(StartError, match="Restore it"):
        sealed.plain("arc-key")
    with pytest.raises(StartError, match="Restore it"):  # a new key would lock the old secrets away for ever
        sealed.set("other", "x")


@pytest.mark.parametrize(
    ("name", "secret"), [("", "x"), ("A", "x"), ("../x", "x"), ("a" * 65, "x"), ("a", ""), ("a", "x" * 65_537)]
)
def test_a_name_or_a_secret_that_will_not_do_is_refused(tmp_path: Path, name: str, secret: str) -> None:
    with pytest.raises(StartError):
        Sealed(tmp_path, {}).set(name, secret)


class Gateway(msgspec.Struct, frozen=True):
    """A receiver with secrets in every place."""

    token: str
    headers: dict[str, str]
    numbers: list[str]
    name: str = "plain"


def test_secrets_stand_in_place_of_their_names_in_texts_lists_and_tables(tmp_path: Path) -> None:
    sealed = Sealed(tmp_path, {})
    sealed.set("token", PLANTED)
    named = Gateway("secret:token", {"Authorization": "secret:token", "Accept": "*/*"}, ["secret:token", "1"])
    assert sealed.opened([named], "x") == [Gateway(PLANTED, {"Authorization": PLANTED, "Accept": "*/*"}, [PLANTED, "1"])]
    with pytest.raises(ConfigError) as caught:
        sealed.opened([Gateway("secret:none", {}, []), Gateway("", {"a": "secret:neither"}, [])], "iotcore.toml")
    assert [problem.path for problem in caught.value.problems] == ["receivers[0].token", "receivers[1].headers"]


def settings_document(tmp_path: Path, key: str) -> dict[str, object]:
    return {
        "data": str(tmp_path),
        "receivers": [
            {"kind": "sia_dc09", "name": "arc", "host": "x", "port": 1, "key": key},
            {"kind": "cad_webhook", "name": "cad", "url": "https://x/", "secret": key},
        ],
    }


def test_the_fire_process_gets_the_secrets_and_what_is_said_of_the_settings_does_not(tmp_path: Path) -> None:
    Sealed(tmp_path, {}).set("arc-key", PLANTED)
    settings = check(settings_document(tmp_path, "secret:arc-key"), "x")
    opened = with_secrets(settings)
    arc, cad = opened.receivers
    assert isinstance(arc, Dc09Receiver)
    assert isinstance(cad, WebhookReceiver)
    assert (arc.key, cad.secret) == (PLANTED, PLANTED)
    assert PLANTED not in repr(opened) + repr(arc) + repr(cad) + str(opened)


def test_a_secret_that_is_missing_or_no_key_is_refused_before_anything_starts(tmp_path: Path) -> None:
    settings = check(settings_document(tmp_path, "secret:arc-key"), "x")
    with pytest.raises(ConfigError, match=r"receivers\[0\].key: There is no secret 'arc-key'"):
        with_secrets(settings)
    Sealed(tmp_path, {}).set("arc-key", "too short")
    with pytest.raises(ConfigError, match=r"must have 16, 24 or 32 characters") as caught:
        with_secrets(settings)
    assert "too short" not in str(caught.value)


def test_the_variable_of_the_key_is_no_setting(tmp_path: Path) -> None:
    file = tmp_path / "iotcore.toml"
    file.write_text('data = "here"', encoding="utf-8")
    assert load(file, PASSPHRASE).data == "here"
