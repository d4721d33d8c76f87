"""The first start: a link in a file that its owner alone reads, in no log, and gone as soon as there is a user."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import stat
from pathlib import Path

import pytest

from iotcore.app import first
from iotcore.clock import ManualClock
from iotcore.registry.accounts import accounts
from iotcore.registry.rights import Grant, Role
from iotcore.registry.store import open_registry
from iotcore.settings import Settings, Web

HOUR_S = 3600.0


async def test_a_link_lies_in_the_data_folder_until_there_is_a_user(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings, clock = Settings(data=str(tmp_path)), ManualClock()
    path = tmp_path / first.FILE
    async with await open_registry(settings.registry_url, clock) as registry:
        people = accounts(registry.database, HOUR_S, HOUR_S)
        with caplog.at_level(logging.INFO):
            await first.keep_link(settings, people)
        link = path.read_text(encoding="utf-8").strip()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        address, _, secret = link.rpartition("/")
        assert address == "http://127.0.0.1:8080/first"
        assert str(path) in caplog.text
        assert secret not in caplog.text
        assert await people.sessions.link(secret) == ""
        await first.keep_link(settings, people)
        assert await people.sessions.link(secret) is None, "the next start makes another"
        clock.advance(HOUR_S + 1.0)
        assert await people.sessions.link(path.read_text(encoding="utf-8").strip().rpartition("/")[2]) is None
        await people.people.add("lan", [Grant(Role.ADMIN)], "tester")
        await first.keep_link(settings, people)
        assert not path.exists()


@pytest.mark.parametrize(
    ("web", "url"),
    [
        (Web(), "http://127.0.0.1:8080"),
        (Web(host="0.0.0.0", port=81), "http://127.0.0.1:81"),
        (Web(host="::1"), "http://[::1]:8080"),
        (Web(names=["city.example"]), "https://city.example"),
    ],
)
def test_links_name_the_page_as_people_reach_it(web: Web, url: str) -> None:
    assert first.page_url(Settings(data="x", web=web)) == url


class Terminal(io.StringIO):
    """What somebody looks at."""

    def isatty(self) -> bool:
        return True


async def test_a_terminal_shows_the_link_of_this_start_and_a_log_does_not(tmp_path: Path) -> None:
    settings, terminal, log = Settings(data=str(tmp_path)), Terminal(), io.StringIO()
    path = tmp_path / first.FILE
    path.write_text("http://127.0.0.1:8080/first/of-an-earlier-start\n")
    os.utime(path, (1.0, 1.0))
    telling = asyncio.create_task(first.tell(settings, 2000.0, terminal))
    await asyncio.sleep(2 * first.POLL_S)
    assert terminal.getvalue() == ""
    path.write_text("http://127.0.0.1:8080/first/of-this\n")
    await asyncio.wait_for(telling, 5.0)
    assert terminal.getvalue().endswith("open http://127.0.0.1:8080/first/of-this\n")
    await first.tell(settings, 2000.0, log)
    assert log.getvalue() == ""
