"""Drills on the page of a premises, over REST and on the command line: who may ask, what is asked for, what they proved."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from iotcore.commands import drills as commands
from iotcore.errors import Refused
from iotcore.journal.drill_store import Ask, SqlDrills, Way
from iotcore.journal.records import Batch, Tried
from iotcore.registry.response import Drills, Response
from iotcore.registry.responses import Responses
from iotcore.registry.rights import Grant, Role
from iotcore.settings import Settings
from tests.integration.test_act_pages import post, text
from tests.support.console import Console, console
from tests.support.fire import notice
from tests.support.visits import PROGRAM

PATH = "/api/v1/premises/p1/drills"


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Console]:
    async with console(tmp_path, {"fire": {}}) as one, one.app.test_app():
        yield one


def ran(made: Console) -> None:
    """A drill whose second path did not answer."""
    store, now_ms = SqlDrills(made.fire.journal), made.clock.wall_ms()
    store.ask(Ask("D1", "p1", "lan", "simulated", "d1", "alarm", "[true]"))
    made.fire.journal.commit(Batch(drills=(Tried("D1", "d1", notice(), now_ms - 9.0, now_ms, now_ms + 0.2),)))
    made.fire.journal.note_drills(["D1"], now_ms + 1.5)
    store.post("D1", (Way("arc", "arc"), Way("arc", "arc-2")))
    first, second = store.next("arc"), store.next("arc-2")
    assert first is not None
    assert second is not None
    store.acknowledged(first, now_ms + 20.0)
    store.refused(second, "connection refused", None)
    store.finish()


async def test_a_drill_is_shown_with_what_each_path_took_and_why_it_failed_in_both_languages(made: Console) -> None:
    ran(made)
    client = await made.client()
    vietnamese = await text(client, "/premises/p1")
    for said in ("Thử toàn tuyến", "Không đạt", "ghi nhận sau", "arc → arc-2: connection refused", "xác nhận sau 29 ms"):
        assert said in vietnamese, said
    client.set_cookie("localhost", "language", "en")
    document = json.loads(await (await client.get(PATH, headers=PROGRAM)).get_data())
    (one,) = document["drills"]
    assert (one["state"], one["reason"], one["latency_ms"]) == ("failed", "arc by arc-2: connection refused", 10.5)
    assert [(way["path"], way["took_ms"]) for way in one["deliveries"]] == [("arc", 29.0), ("arc-2", None)]
    assert (document["missed"], document["every_days"], document["due_ms"]) == (False, None, None)


async def test_whoever_may_commission_asks_for_a_drill_and_the_intent_says_of_which_kind(made: Console) -> None:
    technician = await made.client("binh", Grant(Role.TECHNICIAN))
    status, said = await post(technician, PATH, source="real")
    assert status == 202
    (intent,) = await made.registry.intents_after(0)
    assert (intent.kind, intent.key, intent.by) == ("drill", said["drill"], "binh")
    assert json.loads(intent.body) == {"premises": "p1", "source": "real"}
    viewer = await made.client("chi", Grant(Role.VIEWER))
    assert (await post(viewer, PATH))[0] == 403
    assert (await post(technician, PATH, source="imagined"))[1]["type"] == "urn:iotcore:problem:bad_source"
    assert (await post(technician, "/api/v1/premises/p9/drills"))[0] == 404


async def test_no_drill_is_asked_for_while_another_waits_or_while_it_burns(made: Console) -> None:
    client = await made.client()
    SqlDrills(made.fire.journal).ask(Ask("D1", "p1", "lan", "real"))
    status, problem = await post(client, PATH)
    assert (status, problem["type"]) == (409, "urn:iotcore:problem:drill_waits")
    assert "D1" in problem["detail"]
    assert "Thử ngay" not in await text(client, "/premises/p1")
    incident = made.fire.burn("p2")
    assert incident in (await post(client, "/api/v1/premises/p2/drills"))[1]["detail"]


async def test_a_missed_drill_stands_on_the_page_the_alarms_and_the_doctor_says_it(made: Console, tmp_path: Path) -> None:
    await Responses(made.registry.database).save("p1", Response(drills=Drills(every_days=30)), "an")
    settings = Settings(data=str(tmp_path))
    assert commands.examine(settings) == ([], "none was missed")
    with made.fire.journal.writing() as connection:
        connection.execute(
            "INSERT INTO fault (device, reason, first_ms, last_ms, count) VALUES ('drill:p1', 'drill_missed', 1, 1, 1)"
        )
    assert commands.examine(settings) == (["p1"], "none was passed in time at p1")
    client = await made.client()
    assert "Không lần thử nào đạt" in await text(client, "/premises/p1")
    assert json.loads(await (await client.get(PATH, headers=PROGRAM)).get_data())["missed"] is True


async def test_the_command_line_asks_lists_and_refuses_what_is_unknown(made: Console, tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path))
    id_ = await commands.start(settings, "p1", "simulated")
    (intent,) = await made.registry.intents_after(0)
    assert (intent.kind, intent.key) == ("drill", id_)
    with pytest.raises(Refused, match="p9"):
        await commands.start(settings, "p9", "simulated")
    ran(made)
    (row,) = commands.rows(commands.listed(settings, "p1"))
    assert (row["state"], row["paths"], row["durable_ms"]) == ("failed", "arc: 29 ms, arc-2: connection refused", 10.5)
    assert commands.listed(settings, "p2") == []
    assert [one["id"] for one in commands.documents(commands.listed(settings, ""))] == ["D1"]
