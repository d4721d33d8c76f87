"""`iotcore rule …` as an operator runs it, over a real registry, with two admins where it takes two."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from iotcore.clock import SystemClock
from iotcore.reading import Reading, Value
from iotcore.registry.store import open_registry
from iotcore.settings import Settings
from iotcore.telemetry.stores import open_store
from tests.support.bound import bound
from tests.support.covered import CITY
from tests.support.office import Office
from tests.support.ruling import BASE, advisory, level
from tests.support.shipped import SPECS

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Office:
    (tmp_path / "data").mkdir()
    (tmp_path / "iotcore.toml").write_text(f'data = "{tmp_path / "data"}"\n')
    return Office(tmp_path, monkeypatch, capsys)


def file(office: Office, *documents: Any, name: str = "rules.yaml") -> str:
    path = office.folder / name
    path.write_text(yaml.safe_dump(documents[0] if len(documents) == 1 else list(documents), allow_unicode=True))
    return str(path)


def test_a_rule_is_checked_saved_shown_compared_and_removed(office: Office) -> None:
    rows = json.loads(office.done("rule", "list", "-o", "json"))
    assert len(rows) == len(BASE)
    assert {row["origin"] for row in rows} == {"base"}
    edited = file(office, level(0.3))
    assert office.done("rule", "check", edited) == "well: smoke-level"
    assert office.done("rule", "save", edited, "--dry-run") == (
        "rule smoke-level would change; it takes two admins\nnothing was saved"
    )
    assert office.done("rule", "save", edited) == "rule smoke-level has version 1"
    assert office.done("rule", "save", edited) == "rule smoke-level is as it was"
    assert "conflict: rule smoke-level has version 1, not 3" in office.refused("rule", "save", edited, "--expect", "3")
    shown = office.done("rule", "show", "smoke-level")
    assert yaml.safe_load(shown) == level(0.3)
    assert "# version: 1" in shown
    assert json.loads(office.done("rule", "show", "smoke-rise", "-o", "json"))["origin"] == "base"
    said = office.done("rule", "diff", "smoke-level").splitlines()
    assert {"-  above: 0.25", "+  above: 0.3"} <= set(said)
    again = file(office, level(0.35), name="again.yaml")
    assert "+  above: 0.35" in office.done("rule", "diff", "smoke-level", again).splitlines()
    office.done("rule", "save", again, "--expect", "1")
    assert {"-  above: 0.3", "+  above: 0.35"} <= set(office.done("rule", "diff", "smoke-level").splitlines())
    assert "would be removed: the base's rule holds again; nothing was done" in office.done(
        "rule", "remove", "smoke-level", "--dry-run"
    )
    assert office.done("rule", "remove", "smoke-level") == "rule smoke-level is removed: the base's rule holds again"
    history = json.loads(office.done("rule", "history", "smoke-level", "-o", "json"))
    assert [(one["version"], one["removed"]) for one in history] == [(3, True), (2, False), (1, False)]
    assert "# removed" in office.done("rule", "show", "smoke-level", "--version", "3")
    assert "removed=True" in office.done("rule", "history", "smoke-level")


def test_a_file_with_errors_is_refused_whole_with_all_of_them(office: Office) -> None:
    bad = file(office, advisory("early"), level(above="much"), advisory("late", colour="red"))
    said = office.refused("rule", "save", bad)
    assert f"{bad}: [1]: when.above: Expected" in said
    assert f"{bad}: [2]: colour: unknown key" in said
    assert len(json.loads(office.done("rule", "list", "-o", "json"))) == len(BASE)
    for text, reason in (("a: [", "is not YAML"), ("- &a 1\n- *a", "aliases are not allowed"), ("[]", "holds no rule")):
        Path(bad).write_text(text)
        assert reason in office.refused("rule", "check", bad)
    assert "cannot be read" in office.refused("rule", "check", str(office.folder / "none.yaml"))
    assert "There is no rule smok" in office.refused("rule", "show", "smok")
    assert "was never changed" in office.refused("rule", "history", "smoke-level")
    assert "save a version of it in its place" in office.refused("rule", "remove", "manual-call")
    assert "There is no version 4" in office.refused("rule", "show", "smoke-level", "--version", "4")


def test_many_rules_come_in_one_file_and_an_expected_version_is_for_one(office: Office) -> None:
    many = file(office, {"profile": "immediate", "rules": [advisory("early"), advisory("late")]})
    assert "--expect is for one rule" in office.refused("rule", "save", many, "--expect", "0")
    assert office.done("rule", "save", many) == "rule early has version 1\nrule late has version 1"
    assert [row["rule"] for row in yaml.safe_load(office.done("rule", "list", "-o", "yaml"))][-2:] == ["early", "late"]


def test_what_lowers_protection_takes_two_admins(office: Office) -> None:
    office.done("user", "add", "lan", "--role", "admin")
    office.done("user", "add", "an", "--role", "admin", "--alone", "first days")
    tokens = [
        office.done("apitoken", "create", who, "ci", "--role", "admin", "--alone", "test").split()[-1] for who in ("lan", "an")
    ]
    edited = file(office, level(0.9))
    said = office.refused("rule", "save", edited, token=tokens[0])
    assert "second_person: rule.save takes two admins: an must say yes" in said
    (waiting,) = [row for row in json.loads(office.done("approval", "list", "-o", "json")) if row["action"] == "rule.save"]
    assert "+  above: 0.9" in json.loads(waiting["arguments"])["changes"]
    office.done("approval", "approve", str(waiting["approval"]), token=tokens[1])
    assert office.refused("rule", "save", file(office, level(0.95)), token=tokens[0])  # another text is another question
    assert office.done("rule", "save", file(office, level(0.9)), token=tokens[0]) == "rule smoke-level has version 1"
    assert office.done("rule", "save", file(office, advisory("early")), token=tokens[0]) == "rule early has version 1"
    assert "takes two admins" in office.refused("rule", "remove", "early", token=tokens[0])
    office.done("rule", "remove", "early", "--alone", "it rang all night", token=tokens[0])
    assert "ALONE" in str(asyncio.run(_actions(office)))


def test_a_document_that_cannot_be_used_is_said_by_list(office: Office) -> None:
    office.done("rule", "save", file(office, level(0.3)))
    asyncio.run(_spoil(office))
    code, said = office.run("rule", "list")
    assert code == 1
    assert "version 1 stays in use" not in said  # version 1 itself was spoilt, in the history too
    assert "no earlier version is good" in said
    assert "origin=base" in next(line for line in said.splitlines() if "smoke-level" in line)
    findings = {one["name"]: one for one in json.loads(office.run("doctor", "-o", "json")[1].removesuffix("1"))}
    assert "1 cannot be used: rule smoke-level: version 1 cannot be used" in findings["fire rules"]["said"]


def test_a_rule_is_tried_on_a_measured_fire_and_beside_its_edited_version(office: Office) -> None:
    curve = office.folder / "fire.csv"
    rows = [f"{second},{max(0.0, 0.02 * (second - 60)):.3f},24" for second in range(0, 100, 2)]
    curve.write_text("\n".join(["t,s,c", *rows]))
    columns = ("--time", "t", "--smoke", "s", "--temperature", "c", "--smoke-unit", "dB/m", "--replay", str(curve))
    said = office.done("rule", "test", "smoke-level", *columns)
    assert "in use: would have fired once" in said
    assert "at 76 s  replay  smoke 0.32 dB/m  above_threshold  alarm" in said
    assert "cannot tell: each time it held anew counts" in said
    edited = file(office, level(0.5))
    answer = json.loads(office.done("rule", "test", edited, "--compare", *columns, "-o", "json"))
    assert [one["fires"] for one in answer["versions"]] == [1, 1]
    assert answer["side_by_side"][0]["later_s"] == 12.0
    assert "does not fire" in office.done("rule", "test", file(office, level(5.0)), "--compare", *columns)
    assert yaml.safe_load(office.done("rule", "test", "heat-rise", *columns, "-o", "yaml"))["versions"][0]["fires"] == 0


def test_a_rule_is_tried_on_lines_and_what_is_refused_is_told(office: Office) -> None:
    office.done("import", str(_city(office)))
    lines = [{"device": "s1", "ts": 1_795_312_800_000 + n * 2_000, "values": {"smoke": 0.4}} for n in range(4)]
    lines += [
        {"device": "nobody", "ts": 1_795_312_800_000, "values": {"smoke": 0.4}},
        {"device": "s1", "ts": 0, "values": {"x": 1}},
    ]
    path = office.folder / "readings.jsonl"
    path.write_text("\n".join([*(json.dumps(line) for line in lines), "{"]))
    answer = json.loads(office.done("rule", "test", "smoke-level", "--replay", str(path), "-o", "json"))
    (firing,) = answer["versions"][0]["firings"]
    assert (firing["utc"], firing["local"]) == ("2026-11-22T02:00:02.000Z", "2026-11-22 09:00:02.000")
    assert (firing["device"], firing["premises"]) == ("s1", "school")
    assert [reason.partition(": ")[0] for reason in answer["refused"]] == ["line 5", "line 6", "line 7"]
    assert "cannot be read" in office.refused("rule", "test", "smoke-level", "--replay", "none.jsonl")


def test_a_rule_is_tried_on_what_was_recorded(office: Office) -> None:
    office.done("import", str(_city(office)))
    asyncio.run(_record(office))
    answer = json.loads(office.done("rule", "test", "smoke-level", "--from", "-2h", "-o", "json"))
    (version,) = answer["versions"]
    assert version["premises"] == [{"premises": "market", "name": "Chợ Vườn Hoa", "fires": 1}]
    assert answer["judged"] == {"devices": 4, "with_data": 1, "readings": 100}
    assert set(answer["cannot_tell"]) == {"latched", "coalesced", "no_data", "starts_late"}
    assert "3 of 4 devices have no reading" in answer["cannot_tell"]["no_data"]
    for words in (("--premises", "school"), ("--device", "s1"), ("--to", "-90m")):
        assert json.loads(office.done("rule", "test", "smoke-level", *words, "-o", "json"))["versions"][0]["fires"] == 0
    compared = office.done("rule", "test", file(office, level(0.9)), "--compare")
    assert "in use: would have fired once" in compared
    assert "rules.yaml: does not fire" in compared
    assert "There is no device s11" in office.refused("rule", "test", "smoke-level", "--device", "s11")
    assert "unknown_group" in office.refused("rule", "test", "smoke-level", "--group", "none")
    assert "covers none of these devices" in office.refused("rule", "test", "zone-alarm@classes:fire_panel", "--device", "s1")


def _city(office: Office) -> Path:
    path = office.folder / "city.json"
    path.write_text(json.dumps(CITY))
    return path


async def _record(office: Office) -> None:
    """100 readings of one detector an hour ago, with smoke in the second half."""
    clock = SystemClock()
    one = bound(SPECS["iotcore-smoke-heat"], "s2", "market")
    start_ms = clock.wall_ms() - 3_600_000.0
    readings = [
        Reading("s2", "b", n, "reading", at, at, (Value("smoke", 0.5 if n > 50 else 0.0),))
        for n in range(100)
        for at in (float(int(start_ms + n * 2_000)),)
    ]
    async with open_store(Settings(data=str(office.folder / "data")), clock) as store:
        await store.write(b"\n".join(store.record(reading, one) for reading in readings), len(readings))


async def _spoil(office: Office) -> None:
    from tests.support.registry_sql import sql  # noqa: PLC0415 - only here

    url = f"sqlite://{office.folder / 'data' / 'registry.db'}"
    await sql(url, "UPDATE rule_document SET body = '[]'", "UPDATE rule_version SET body = '[]'")


async def _actions(office: Office) -> list[str]:
    async with await open_registry(f"sqlite://{office.folder / 'data' / 'registry.db'}", SystemClock()) as registry:
        return [one.deed.action for one in await registry.audit_entries()]
