"""`iotcore response|disablement|walk` as an operator runs them, and what takes two persons of them."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from pathlib import Path

import pytest

from iotcore.clock import ManualClock
from iotcore.registry.store import open_registry
from tests.support.console import CITY
from tests.support.fire_journal import FireJournal
from tests.support.office import Office
from tests.support.printed import printed
from tests.support.shipped import SPECS

pytestmark = pytest.mark.timeout(120)
VERIFIED = "profile: verified\nasked_by: CV 12/PCCC\nreceivers: [arc]\n"


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Office:
    receiver = '[[receivers]]\nkind = "sia_dc09"\nname = "arc"\nhost = "127.0.0.1"\nport = 9000\n'
    (tmp_path / "iotcore.toml").write_text(f'data = "{tmp_path / "data"}"\n{receiver}', encoding="utf-8")
    found = Office(tmp_path, monkeypatch, capsys)
    found.done("ca", "init")
    asyncio.run(_city(f"sqlite://{tmp_path / 'data' / 'registry.db'}"))
    return found


async def _city(url: str) -> None:
    async with await open_registry(url) as registry:
        await registry.import_city(CITY, SPECS, "tester")


def plan(office: Office, text: str) -> str:
    path = office.folder / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def two_admins(office: Office) -> tuple[str, str]:
    """The tokens of two admins."""
    for name in ("lan", "minh"):
        office.done("user", "add", name, "--role", "admin")
    alone = ("--alone", "the first tokens")
    lan = office.done("apitoken", "create", "lan", "me", "--role", "admin", *alone)
    return lan, office.done("apitoken", "create", "minh", "me", "--role", "admin", *alone)


def test_a_plan_is_saved_shown_listed_and_forgotten(office: Office) -> None:
    assert json.loads(office.done("response", "show", "p1"))["profile"] == "immediate"
    path = plan(office, VERIFIED)
    assert "protects less: the profile becomes verified" in office.done("response", "save", "p1", path, "--dry-run")
    assert office.rows("response") == []
    assert office.done("response", "save", "p1", path, "--expect", "0") == "the plan of p1 has version 1"
    assert "conflict" in office.refused("response", "save", "p1", path, "--expect", "0")
    assert json.loads(office.done("response", "show", "p1"))["receivers"] == ["arc"]
    assert office.rows("response")[0]["plan"] == "verified"
    assert "forgotten" in office.done("response", "remove", "p1")
    assert office.done("response", "remove", "p1") == "the plan of p1: there is none"
    versions = json.loads(office.done("response", "history", "p1", "-o", "json"))
    assert [(one["version"], one["plan"]) for one in versions] == [(2, "removed"), (1, "verified")]
    assert "unknown_premises" in office.refused("response", "show", "nowhere")


def test_a_wrong_plan_is_refused_with_everything_that_is_wrong(office: Office) -> None:
    said = office.refused(
        "response", "save", "p1", plan(office, "profile: verified\nreceivers: [fax]\ndrills: {every_days: 0}\n")
    )
    assert "drills.every_days" in said
    said = office.refused("response", "save", "p1", plan(office, "profile: verified\nreceivers: [fax]\n"))
    assert "asked_by: missing" in said
    assert "no receiver 'fax' in the settings; there are: arc" in said
    assert office.rows("response") == []
    assert "cannot be read" in office.refused("response", "save", "p1", str(office.folder / "nothing.yaml"))


def test_a_plan_that_protects_less_takes_two_admins_and_one_that_protects_more_does_not(office: Office) -> None:
    lan, minh = two_admins(office)
    path = plan(office, VERIFIED)
    assert "takes two admins" in office.refused("response", "save", "p1", path, token=lan)
    assert office.rows("response") == []
    asked = office.done("approval", "list", "-o", "json")
    assert "the profile becomes verified" in asked
    number = str(max(row["approval"] for row in json.loads(asked)))
    office.done("approval", "approve", number, token=minh)
    assert "takes two admins" in office.refused("response", "save", "p2", path, token=lan), "it was for another premises"
    assert office.done("response", "save", "p1", path, token=lan) == "the plan of p1 has version 1"
    assert office.done("response", "save", "p1", plan(office, "drills: {every_days: 30}\n"), token=lan).endswith("version 2")
    assert "takes two admins" in office.refused("response", "remove", "p1", token=lan), "it had drills"


def test_a_device_is_disabled_by_one_and_a_whole_premises_by_two(office: Office) -> None:
    lan, minh = two_admins(office)
    said = office.done("disablement", "add", "point:d1/smoke", "--minutes", "30", "--reason", "sơn trần", token=lan)
    assert "point d1/smoke is disabled until" in said
    assert "no_reason" in office.refused("disablement", "add", "device:d2", "--minutes", "30", "--reason", " ")
    assert "names nothing" in office.refused("disablement", "add", "point:d1", "--minutes", "30", "--reason", "x")
    assert "too_long" in office.refused("disablement", "add", "device:d2", "--minutes", "43201", "--reason", "x")
    whole = ("disablement", "add", "premises:p2", "--minutes", "30", "--reason", "thay tủ")
    name = office.done(*whole, token=lan).partition(":")[0]
    states = {row["what"]: row["state"] for row in office.rows("disablement")}
    assert states == {"premises p2": "waits for a second person", "point d1/smoke": "disabled"}
    assert "who" in office.refused("disablement", "confirm", name)
    assert "same_person" in office.refused("disablement", "confirm", name, token=lan)
    assert "premises p2 is disabled until" in office.done("disablement", "confirm", name, token=minh)
    assert office.done("disablement", "lift", name, token=lan) == f"{name} is over"
    assert office.done("disablement", "lift", name, token=lan) == f"{name} was over before"
    assert "premises p2 is disabled" in office.done(*whole, "--alone", "minh is away", token=lan)
    deeds = [(one["by"], one["action"]) for one in office.audit()]
    assert ("lan/me", "disable.ask") in deeds
    assert ("minh/me", "disable") in deeds
    assert ("lan/me", "approval.ALONE") in deeds


def test_a_walk_test_is_begun_listed_and_ended(office: Office) -> None:
    said = office.done("walk", "start", "p1", "--zone", "p1-z1", "--minutes", "30")
    assert "p1-z1 is in walk test until" in said
    name = said.partition(":")[0]
    assert "in_walk" in office.refused("walk", "start", "p1")
    assert [(row["id"], row["state"]) for row in office.rows("walk")] == [(name, "lasts")]
    assert office.done("walk", "end", name) == f"{name} is over"
    assert office.rows("walk") == []
    assert "too_long" in office.refused("walk", "start", "p1", "--minutes", "241")


def test_doctor_says_what_is_out_of_service_and_an_incident_that_is_not_there_is_refused(office: Office) -> None:
    office.done("disablement", "add", "device:d1", "--minutes", "30", "--reason", "sơn trần")
    office.done("walk", "start", "p2", "--minutes", "30")
    findings = {one["name"]: one for one in json.loads(office.run("doctor", "-o", "json")[1].rpartition("]")[0] + "]")}
    assert "device d1 is disabled until" in findings["out of service"]["said"]
    assert "p2 is in walk test until" in findings["out of service"]["said"]
    assert findings["out of service"]["well"]
    for words in (("show",), ("acknowledge",), ("silence",), ("reset",)):
        assert "unknown_incident" in office.refused("incident", *words, "F20200101-000000-ABCDEF")


def test_an_incident_is_shown_and_acted_on(office: Office) -> None:
    fire = FireJournal(office.folder / "data" / "journal.db", ManualClock())
    incident = fire.burn()
    fire.close()
    (alarm,) = json.loads(office.done("incident", "show", incident))["alarms"]
    office.done("incident", "acknowledge", incident, "--alarm", str(alarm["id"]), "--by", "an")
    assert "unknown_alarm" in office.refused("incident", "acknowledge", incident, "--alarm", "999")
    office.done("incident", "silence", incident, "--by", "an")
    deeds = [(one["by"], one["action"], one["subject"]) for one in office.audit()]
    assert ("an", "incident.acknowledge", f"{incident}/{alarm['id']}") in deeds
    assert ("an", "incident.silence", incident) in deeds


def test_papers_are_written_whole_once_and_noted(office: Office) -> None:
    with closing(FireJournal(office.folder / "data" / "journal.db", ManualClock())) as fire:
        incident = fire.burn()
    out, other = office.folder / "report.pdf", office.folder / "other.pdf"
    assert "signed" in office.done("incident", "report", incident, "--out", str(out))
    assert incident in printed(out.read_bytes(), office.folder)
    assert "is there already" in office.refused("incident", "report", incident, "--out", str(out))
    assert "unknown_incident" in office.refused("incident", "report", "F20200101-000000-ABCDEF", "--out", str(other))
    assert not other.exists()
    assert "signed" in office.done("drill", "report", "--month", "2026-10", "--out", str(other))
    assert "Chợ Vườn Hoa (p2)" in printed(other.read_bytes(), office.folder)
    never = office.folder / "never.pdf"
    assert "bad_month" in office.refused("drill", "report", "--month", "x", "--out", str(never))
    assert "unknown_area" in office.refused("drill", "report", "--area", "nowhere", "--out", str(never))
    noted = [(one["action"], one["subject"]) for one in office.audit() if one["action"].startswith("report.")]
    assert noted == [("report.incident", incident), ("report.drills", "2026-10")]
