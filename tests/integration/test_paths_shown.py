"""A dead path is shown where people look: on the page, in both languages, and by the doctor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from iotcore.clock import ManualClock, Uptime
from iotcore.commands.doctor import _receiver_check
from iotcore.journal.journal import Journal
from iotcore.journal.path_watch import SqlPaths
from iotcore.registry.directory import Directory
from iotcore.settings import Settings, check
from iotcore.web.render import Pages, dark
from iotcore.web.view import StoredView
from simulators.arc_receiver import ArcReceiver
from tests.support.ports import free_port

READABLE = {"readable": {"journal": True, "telemetry": True}, "processes": {}, "refused": {}}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[SqlPaths, ManualClock]]:
    clock = ManualClock()
    with closing(Journal(tmp_path / "journal.db", clock, ["arc"])) as journal:
        store = SqlPaths(journal, clock, Uptime("boot-1", clock.monotonic_s))
        store.begin({"arc": 75.0})
        yield store, clock


def shown(folder: Path) -> dict[str, Any]:
    with closing(StoredView(folder, lambda: Directory({}))) as view:
        return {**READABLE, "paths": view.paths()}


def settings(folder: Path, port: int, transport: str = "tcp") -> Settings:
    arc = {"kind": "sia_dc09", "name": "arc", "host": "127.0.0.1", "port": port, "transport": transport}
    return check({"data": str(folder), "receivers": [arc]}, "x")


def test_the_page_says_of_each_path_whether_it_answers_and_warns_of_a_dead_one(
    tmp_path: Path, watched: tuple[SqlPaths, ManualClock]
) -> None:
    store, clock = watched
    pages = Pages()
    status = shown(tmp_path)
    assert not dark(status)
    assert "answers" in pages.status(status, "en")
    clock.advance(75.0)
    store.expired()
    store.failed("arc", "no_reply: 5 s")
    status = shown(tmp_path)
    assert dark(status)
    for language, words in (("vi", "Đường truyền đến nơi nhận đã mất"), ("en", "The path to the receiver is dead")):
        text = pages.status(status, language)  # type: ignore[arg-type] # a table
        assert words in text
        assert "no_reply: 5 s" in text


async def test_the_doctor_says_what_the_link_tests_say(tmp_path: Path, watched: tuple[SqlPaths, ManualClock]) -> None:
    store, clock = watched
    async with ArcReceiver() as arc:
        here = settings(tmp_path, arc.port)
        assert (await _receiver_check(here, here.receivers[0])()).well
        clock.advance(75.0)
        store.expired()
        store.failed("arc", "nak: the receiver refused")
        found = await _receiver_check(here, here.receivers[0])()
        assert (found.well, found.said) == (False, "no path: nak: the receiver refused")
        store.heard("arc", 75.0)
        assert (await _receiver_check(here, here.receivers[0])()).well


async def test_the_doctor_believes_datagrams_when_they_are_acknowledged(
    tmp_path: Path, watched: tuple[SqlPaths, ManualClock]
) -> None:
    here = settings(tmp_path, free_port(), "udp")
    assert (await _receiver_check(here, here.receivers[0])()).said.endswith("nothing was acknowledged yet")
    watched[0].heard("arc", 75.0)
    assert (await _receiver_check(here, here.receivers[0])()).said.endswith("acknowledges link tests")
