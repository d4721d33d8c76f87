"""`iotcore user|apitoken|approval` as an operator runs them, and the two-person rule over the certificate authority."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
from pathlib import Path

import pytest

from iotcore.clock import SystemClock
from iotcore.registry.records import Certificate, State
from iotcore.registry.store import open_registry
from tests.support.console import CITY
from tests.support.office import Office

STATES: tuple[State, ...] = ("provisioned", "active")

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Office:
    (tmp_path / "iotcore.toml").write_text(f'data = "{tmp_path / "data"}"\n', encoding="utf-8")
    return Office(tmp_path, monkeypatch, capsys)


def test_users_from_the_command_line(office: Office) -> None:
    assert office.done("user", "link").startswith("http://127.0.0.1:8080/first/")
    office.done("user", "add", "lan", "--role", "admin", "--full-name", "Lan")
    assert "not_first" in office.refused("user", "link")
    assert office.done("user", "link", "lan").startswith("http://127.0.0.1:8080/link/")
    office.done("user", "password", "lan", stdin="ba con mèo trắng\n")
    assert "weak_password" in office.run("user", "password", "lan", stdin="short\n")[1]
    office.done("user", "grant", "lan", "auditor")
    office.done("user", "revoke", "lan", "auditor")
    assert "unknown_role" in office.refused("user", "grant", "lan", "king")
    assert "unknown_area" in office.refused("user", "grant", "lan", "viewer@mars")
    assert "last_admin" in office.refused("user", "disable", "lan")
    assert office.done("user", "sessions", "lan") == ""
    assert office.done("user", "sessions", "lan", "--end") == "0 sessions of lan have ended"
    assert "unknown_user" in office.refused("user", "sessions", "nobody")
    (lan,) = office.rows("user")
    assert (lan["user"], lan["roles"], lan["signs_in_by"]) == ("lan", "admin", "password")
    token = office.done("apitoken", "create", "lan", "wallboard", "--role", "viewer", "--days", "30")
    assert token.startswith("iotcore_")
    assert office.rows("apitoken")[0]["token"] == "lan/wallboard"
    assert "bad_token" in office.run("user", "list", token="iotcore_guessed")[1]
    assert office.run("apitoken", "revoke", "lan", "wallboard")[0] == 0
    assert office.run("apitoken", "revoke", "lan", "wallboard")[0] == 1
    assert "bad_token" in office.run("user", "list", token=token)[1]
    stored = b"".join(path.read_bytes() for path in (office.folder / "data").glob("registry.db*"))
    for secret in ("ba con mèo trắng", token):
        assert secret.encode() not in stored


def test_an_authority_is_rotated_by_two_admins_once(office: Office) -> None:
    office.done("ca", "init")
    office.done("ca", "rotate", "field")  # an installation without users is being set up
    office.done("user", "add", "lan", "--role", "admin")
    lan = office.done("apitoken", "create", "lan", "me", "--role", "admin")
    viewer = office.done("apitoken", "create", "lan", "eye", "--role", "viewer")
    rotate = ("ca", "rotate", "fire")
    assert "cannot be told which one you are" in office.refused(*rotate)
    assert "cannot be told which one you are" in office.refused(*rotate, token=viewer), "a viewer's token is no admin's word"
    assert "'lan' is the only one" in office.refused(*rotate, token=lan)
    office.done("user", "add", "minh", "--role", "admin")
    minh = office.done("apitoken", "create", "minh", "me", "--role", "admin", "--alone", "the first token of a new admin")
    assert "minh must say yes (iotcore approval approve 1" in office.refused(*rotate, token=lan)
    assert "same_person" in office.refused("approval", "approve", "1", token=lan)
    assert office.done("approval", "approve", "1", token=minh).startswith("approved: ca.rotate")
    assert "takes two admins" in office.refused("ca", "rotate", "service", token=lan), "it was for another authority"
    assert "takes two admins" in office.refused(*rotate, "--new-root", token=lan), "nor for a new root"
    assert "fire-2 signs from now on" in office.done(*rotate, token=lan)
    assert "takes two admins" in office.refused(*rotate, token=lan), "once"
    assert "fire-3 signs" in office.done(*rotate, "--alone", "minh is away and the key was seen")
    states = {row["approval"]: row["state"] for row in office.rows("approval")}
    assert states[1] == "used"
    entries = office.audit()
    (alone,) = [one for one in entries if one["action"] == "approval.ALONE" and one["subject"] == "ca.rotate"]
    assert "minh is away and the key was seen" in str(alone["detail"])
    assert [one["by"] for one in entries if one["action"] == "ca_rotate"][1] == "lan/me"


def test_one_of_two_admins_cannot_become_both(office: Office) -> None:
    (office.folder / "iotcore.toml").write_text(
        f'data = "{office.folder / "data"}"\n[people.operators]\n{json.dumps(login())} = "lan"\n', encoding="utf-8"
    )
    office.done("user", "add", "lan", "--role", "admin")
    office.done("user", "add", "minh", "--role", "admin")
    office.done("user", "add", "hoa")
    for words in (
        ("user", "add", "puppet", "--role", "admin"),
        ("user", "grant", "hoa", "admin"),
        ("user", "revoke", "minh", "admin"),
        ("user", "disable", "minh"),
        ("user", "link", "minh"),
        ("apitoken", "create", "minh", "x", "--role", "admin"),
    ):
        assert "takes two admins: minh must say yes" in office.refused(*words), words
    office.done("user", "link", "lan")
    office.done("user", "link", "hoa")
    office.done("user", "grant", "hoa", "viewer")
    assert {row["asked_by"] for row in office.rows("approval")} == {"lan"}


def test_what_is_done_to_a_whole_group_takes_two_admins_who_mean_the_same_devices(office: Office) -> None:
    city = office.folder / "city.json"
    city.write_text(json.dumps(CITY), encoding="utf-8")
    office.done("import", str(city))
    office.done("group", "add", "fire", "--class", "fire_detector")
    tokens = ("token", "create", "--group", "fire")
    assert len(office.done(*tokens).splitlines()) == 2, "an installation without users is being set up"
    office.done("user", "add", "lan", "--role", "admin")
    office.done("user", "add", "minh", "--role", "admin")
    lan, minh = (office.done("apitoken", "create", one, "me", "--role", "admin", "--alone", "new") for one in ("lan", "minh"))
    assert "takes two admins: minh must say yes" in office.refused(*tokens, token=lan)
    office.done("approval", "approve", "1", token=minh)
    more = {**CITY["devices"][1], "id": "d3"}
    city.write_text(json.dumps({"devices": [more]}), encoding="utf-8")
    office.done("import", str(city))
    assert "takes two admins" in office.refused(*tokens, token=lan), "it was for two devices, and there are three"
    office.done("approval", "approve", "2", token=minh)
    assert sorted(line.split()[0] for line in office.done(*tokens, token=lan).splitlines()) == ["d1", "d2", "d3"]
    made = [one for one in office.audit() if one["action"] == "token.create"]
    assert [one["by"] for one in made][2:] == ["lan/me"] * 3


def test_the_rule_can_be_switched_off(office: Office) -> None:
    (office.folder / "iotcore.toml").write_text(f'data = "{office.folder / "data"}"\n[people]\ntwo_person = false\n')
    office.done("ca", "init")
    office.done("user", "add", "lan", "--role", "admin")
    assert "fire-2 signs" in office.done("ca", "rotate", "fire")


def login() -> str:
    """Who runs the tests."""
    return pwd.getpwuid(os.getuid()).pw_name


async def _ready(url: str) -> None:
    """A detector that works, with two certificates."""
    clock = SystemClock()
    async with await open_registry(url, clock) as registry:
        for serial in ("0a", "0b"):
            await registry.record_certificate(
                Certificate(serial, "d1", "fire", int(clock.wall_ms()) + 86_400_000, serial * 2), "ca"
            )
        for state in STATES:
            await registry.set_state("d1", state, "tester")


async def _intents(url: str) -> list[tuple[str, str, str]]:
    async with await open_registry(url, SystemClock()) as registry:
        return [(one.kind, one.key, one.by) for one in await registry.intents_after(0)]


def test_the_audit_names_whoever_is_at_the_command_line(office: Office) -> None:
    city = office.folder / "city.json"
    sensor = {"id": "air-9", "title": "Air", "model": "airgradient-one"}
    city.write_text(json.dumps({**CITY, "devices": [*CITY["devices"], sensor]}), encoding="utf-8")
    office.done("import", str(city))
    login = pwd.getpwuid(os.getuid()).pw_name
    office.done("user", "add", "lan", "--role", "admin")
    token = office.done("apitoken", "create", "lan", "me", "--role", "admin")
    url = f"sqlite://{office.folder / 'data' / 'registry.db'}"
    asyncio.run(_ready(url))
    for given, name in (("", f"login {login}"), (token, "lan/me")):
        before = len(office.audit())
        for words in (
            ("device", "suspend", "d1"),
            ("device", "resume", "d1"),
            ("device", "credential", "air-9"),
            ("device", "credential", "air-9", "--revoke"),
            ("token", "create", "d2"),
        ):
            office.done(*words, token=given)
        done = office.audit()[before:]
        assert len(done) >= 5
        assert {one["by"] for one in done} == {name}
    before = len(office.audit())
    office.done("device", "revoke", "d1", token=token)
    assert [(one["by"], one["action"]) for one in office.audit()[before:]] == [("lan/me", "certificate.revoke")] * 2

    office.done("acknowledge", "F1", "--by", "minh")
    office.done("reset", "F1", "--by", "minh", token=token)
    with (office.folder / "iotcore.toml").open("a", encoding="utf-8") as settings:
        settings.write(f'[people.operators]\n"{login}" = "lan"\n')
    office.done("acknowledge", "F2", "--by", "minh")
    assert asyncio.run(_intents(url)) == [
        ("acknowledge", "F1", "minh"),
        ("reset", "F1", "lan/me"),
        ("acknowledge", "F2", "lan"),
    ]
    assert "bad_token" in office.refused("acknowledge", "F3", token="iotcore_guessed")
    assert len(asyncio.run(_intents(url))) == 3
