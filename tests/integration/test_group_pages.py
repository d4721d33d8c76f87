"""The pages of groups over a real registry and telemetry.db."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from quart.typing import TestClientProtocol as Client

from iotcore.errors import StoreError
from iotcore.process.grouped import FIRMWARE_S, Grouped
from iotcore.registry import groups
from iotcore.registry.groups import Group, GroupStore
from iotcore.registry.rights import Grant, Role
from tests.support.console import Console, console
from tests.support.covered import CITY, activate
from tests.support.shipped import SPECS
from tests.support.until import until

QUERY: dict[str, Any] = {
    "kind": "all",
    "of": [
        {"kind": "class", "is": ["fire_detector"]},
        {"kind": "area", "is": ["w1", "w2"]},
        {"kind": "firmware", "below": "2.1"},
    ],
}


async def _fill(one: Console, folder: Path) -> None:
    await one.registry.import_city(CITY, SPECS, "tester")
    await activate(one.registry, "s1", "s2")
    one.directory = await one.registry.directory(SPECS)
    with closing(sqlite3.connect(folder / "telemetry.db")) as file, file:
        for device, version in (("s1", "2.0.1"), ("s2", "2.0"), ("s3", "2.1")):
            file.execute("INSERT INTO presence VALUES (?, 'online', 0, 0, ?)", (device, version))
    document = groups.check("update", {"title": "Cần cập nhật", "query": QUERY}, one.directory, SPECS)
    await GroupStore(one.registry.database).save("update", document, "lan")
    await one.grouped.refresh()


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Console]:
    async with console(tmp_path, {"fire": {}}) as one:
        await _fill(one, tmp_path)
        yield one


@pytest.fixture
async def client(made: Console) -> AsyncIterator[Client]:
    async with made.app.test_app():
        yield await made.client()


async def text_of(client: Client, path: str, status: int = 200) -> str:
    response = await client.get(path, headers={"Host": "localhost"})
    assert response.status_code == status
    return await response.get_data(as_text=True)


async def test_a_group_is_shown_with_its_query_and_who_is_in_it(client: Client) -> None:
    assert '<a href="/groups/update"><b>Cần cập nhật</b></a> <small>update</small> <span class="count">2</span>' in await text_of(
        client, "/groups"
    )
    shown = await text_of(client, "/groups/update")
    for text in ("Khói 1", "Khói 2", "s1 · đang hoạt động · 2.0.1", "&#34;below&#34;: &#34;2.1&#34;", "Phiên bản 1, do lan"):
        assert text in shown, text
    assert "Khói 3" not in shown
    assert 'href="/groups"' in await text_of(client, "/")
    await text_of(client, "/groups/nobody", 404)


async def test_the_page_of_a_device_names_its_groups(made: Console, client: Client) -> None:
    shown = '<dt>Nhóm</dt><dd><a href="/groups/update">Cần cập nhật</a></dd>'
    for path in ("/devices/s1", "/devices/s1/details"):
        assert shown in await text_of(client, path)
    assert "<dt>Nhóm</dt>" not in await text_of(client, "/devices/s3")
    await GroupStore(made.registry.database).remove("update", "lan")
    await made.grouped.refresh()
    assert "<dt>Nhóm</dt>" not in await text_of(client, "/devices/s1")


async def test_programs_and_spreadsheets_get_the_members(client: Client) -> None:
    assert json.loads(await text_of(client, "/api/v1/groups"))["groups"] == [
        {"group": "update", "title": "Cần cập nhật", "devices": 2, "version": 1}
    ]
    found = json.loads(await text_of(client, "/api/v1/groups/update"))
    assert found["query"] == QUERY
    assert [(row["device"], row["firmware"]) for row in found["members"]] == [("s2", "2.0"), ("s1", "2.0.1")]
    rows = list(csv.DictReader(io.StringIO((await text_of(client, "/groups/update.csv")).removeprefix("\ufeff"))))
    assert [row["premises"] for row in rows] == ["market", "school"]
    assert json.loads(await text_of(client, "/api/v1/groups/nobody", 404))["title"] == "unknown group"


async def test_a_device_leaves_when_it_reports_another_firmware(made: Console, client: Client, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "telemetry.db")) as file, file:
        file.execute("UPDATE presence SET firmware = '2.1' WHERE device = 's1'")
    made.clock.advance(FIRMWARE_S)
    await made.grouped.refresh()
    members = json.loads(await text_of(client, "/api/v1/groups/update"))["members"]
    assert [row["device"] for row in members] == ["s2"]
    assert made.grouped.members.of("s1") == frozenset()
    await GroupStore(made.registry.database).remove("update", "lan")
    await made.grouped.refresh()
    assert "Chưa có nhóm nào" in await text_of(client, "/groups")


async def test_whoever_may_see_one_area_sees_its_members_only(tmp_path: Path) -> None:
    async with console(tmp_path) as one:
        await _fill(one, tmp_path)
        async with one.app.test_app():
            client = await one.client("lan", Grant(Role.VIEWER, "w1"))
            assert json.loads(await text_of(client, "/api/v1/groups"))["groups"][0]["devices"] == 1
            assert "Khói 2" not in await text_of(client, "/groups/update")
            assert "Khói 2" not in await text_of(client, "/groups/update.csv")


class Unsteady(GroupStore):
    """A registry that answers now and then."""

    answers = True

    async def all(self) -> dict[str, Group]:
        if not self.answers:
            raise StoreError("the registry cannot do that")
        return await super().all()


async def test_while_the_registry_does_not_answer_the_last_groups_stay_in_use(made: Console) -> None:
    store = Unsteady(made.registry.database)
    grouped = Grouped(store, lambda: made.directory, lambda: {"s1": "1.0"}, made.clock)
    following = asyncio.create_task(grouped.run(0.01))
    try:
        await until(lambda: grouped.members.of("s1") == {"update"})
        store.answers = False
        await asyncio.sleep(0.1)
        assert grouped.members.members("update") == {"s1"}
        await GroupStore(made.registry.database).remove("update", "lan")
        store.answers = True
        await until(lambda: not grouped.groups)
    finally:
        following.cancel()
        await asyncio.wait({following})
