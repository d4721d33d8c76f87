"""A journal that lets its readers wait keeps nobody waiting who asks for something else; one that is gone is not called calm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from iotcore.errors import StoreError
from iotcore.journal.postgres import split
from iotcore.web import case_view
from iotcore.web.case_view import CaseView
from tests.integration.test_web import stream
from tests.support.canonical import DIRECTORY
from tests.support.console import Console, console
from tests.support.postgres import Postgres
from tests.support.visits import BROWSER, PROGRAM

LIMIT_S = 5.0
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.fixture
def processes() -> dict[str, object]:
    return {"fire": {}}


@pytest.fixture
def place(postgres_server: Postgres) -> str:
    return postgres_server.url(postgres_server.fresh())


@pytest.fixture
async def made(tmp_path: Path, place: str, processes: dict[str, object]) -> AsyncIterator[Console]:
    async with console(tmp_path, processes, journal=place) as one, one.app.test_app():
        yield one


@contextmanager
def locked(place: str) -> Iterator[psycopg.Connection]:
    """Whoever reads alarms waits until the end of this."""
    url, schema = split(place)
    with psycopg.connect(url) as session:
        session.execute(f"LOCK TABLE {schema}.alarm IN ACCESS EXCLUSIVE MODE")
        yield session


@pytest.mark.parametrize("path", ["/incidents/{incident}", "/alarms", "/api/v1/incidents/{incident}"])
async def test_a_page_that_waits_for_the_journal_delays_neither_the_stream_nor_another_page(
    made: Console, place: str, processes: dict[str, object], path: str
) -> None:
    incident, client = made.fire.burn(), await made.client()
    async with stream(client) as heard:
        while incident not in str((await anext(heard))[2]):
            pass
        with locked(place) as session:
            slow = asyncio.create_task(client.get(path.format(incident=incident), headers=BROWSER))
            async with asyncio.timeout(LIMIT_S):
                while session.execute(WAITING).fetchone() == (0,):  # noqa: ASYNC110 - the server knows
                    await asyncio.sleep(0.01)
                answer = await client.get("/", headers=BROWSER)
                processes["telemetry"] = {}
                while (await anext(heard))[0] != "status":
                    pass
            assert answer.status_code == 200
            assert not slow.done(), "the journal has not answered yet"
        assert (await slow).status_code == 200


async def test_a_journal_that_is_gone_is_said_and_not_shown_as_calm(made: Console, postgres_server: Postgres) -> None:
    incident, client = made.fire.burn(), await made.client()
    assert (await client.get("/alarms", headers=BROWSER)).status_code == 200
    postgres_server.pause()
    try:
        for path in ("/alarms", f"/incidents/{incident}"):
            answer = await client.get(path, headers=BROWSER)
            assert answer.status_code == 503, path
            assert "the journal does not answer" in await answer.get_data(as_text=True)
        problem = await client.get("/api/v1/alarms", headers=PROGRAM)
        assert (problem.status_code, (await problem.get_json())["type"]) == (503, "urn:iotcore:problem:store_down")
    finally:
        postgres_server.resume()
    assert (await client.get(f"/incidents/{incident}", headers=BROWSER)).status_code == 200


async def test_only_so_many_pages_wait_for_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case_view, "MOST_WAITING", 2)
    view = CaseView(tmp_path / "journal.db", lambda: DIRECTORY)
    answers = await asyncio.gather(*(view.standing(0.0) for _ in range(3)), return_exceptions=True)
    assert answers[:2] == [[], []]
    assert isinstance(answers[2], StoreError)
    assert await view.standing(0.0) == [], "and again as soon as there is room"
    await view.close()
