"""By which paths a drill goes, and what it is called there: nobody is called by one who has not asked for it."""

from __future__ import annotations

from typing import Any

import pytest

from iotcore.app.drilling import ways
from iotcore.errors import ConfigError
from iotcore.journal.drill_store import Way
from iotcore.registry.response import DEFAULT, Drills, Response, check
from iotcore.settings import check as settings_of
from iotcore.settings_receivers import Receiver

CAP: dict[str, Any] = {"kind": "cap", "sender": "iotcore@example.vn"}
MAIL: dict[str, Any] = {"kind": "mail", "name": "mail", "host": "mail.example", "sender": "a@example.vn", "to": ["b@example.vn"]}


def receivers(*rows: dict[str, Any]) -> list[Receiver]:
    return list(settings_of({"data": "/tmp/nowhere", "receivers": list(rows)}, "drills").receivers)


def dc09(name: str, **more: Any) -> dict[str, Any]:
    return {"kind": "sia_dc09", "name": name, "host": "127.0.0.1", "port": 12000, **more}


def test_a_receiver_and_its_alternate_are_two_ways_and_the_alternate_is_none_by_itself() -> None:
    told = receivers(dc09("arc", alternate="arc-2"), dc09("arc-2"))
    assert ways(told, DEFAULT) == [Way("arc", "arc"), Way("arc", "arc-2")]


def test_a_warning_system_hears_of_drills_by_its_status_and_one_for_real_alarms_of_none() -> None:
    told = receivers(
        {**CAP, "name": "actual", "url": "https://a.example", "status": "Actual"},
        {**CAP, "name": "exercise", "url": "https://b.example", "status": "Exercise"},
        {**CAP, "name": "trial", "url": "https://c.example", "status": "Test"},
    )
    assert ways(told, DEFAULT) == [Way("exercise", "exercise", "exercise"), Way("trial", "trial")]


def test_people_hear_of_a_drill_only_where_the_plan_says_so() -> None:
    told = receivers(dc09("arc"), MAIL)
    assert ways(told, Response(drills=Drills(every_days=30))) == [Way("arc", "arc")]
    assert ways(told, Response(drills=Drills(every_days=30, also=("mail",)))) == [Way("arc", "arc"), Way("mail", "mail")]


def test_only_the_receivers_of_the_premises_are_drilled_and_all_where_none_of_them_is_left() -> None:
    told = receivers(dc09("arc"), dc09("other"))
    assert ways(told, Response(receivers=("other",))) == [Way("other", "other")]
    assert ways(told, Response(receivers=("gone",))) == [Way("arc", "arc"), Way("other", "other")]


def test_a_plan_that_names_nobody_s_receiver_is_refused_where_it_does() -> None:
    with pytest.raises(ConfigError, match=r"drills\.also\[1\]"):
        check({"drills": {"every_days": 30, "also": ["mail", "post"]}}, {"mail", "arc"})
