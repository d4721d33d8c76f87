"""The drills of a month on paper: sums of what the journal keeps, by premises and path, for whoever may see the area."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from iotcore.clock import ManualClock
from iotcore.errors import Refused
from iotcore.journal import drill_month
from iotcore.journal.database import Place, connect_readonly
from iotcore.journal.drill_month import Month, PremisesSum
from iotcore.provision.ca import Anchor
from iotcore.registry.directory import Directory, Premises
from iotcore.registry.response import Drills, Response
from iotcore.registry.responses import Responses
from iotcore.registry.rights import Grant, Role
from iotcore.schedule import ZONE
from iotcore.web import drill_paper
from iotcore.web.bilingual import Both
from iotcore.web.drill_reports import bounds, last_month
from iotcore.web.words import load
from tests.integration.test_web_rights import AREAS
from tests.support.console import Console, authority_of, console
from tests.support.fire_journal import FireJournal
from tests.support.papers import judged
from tests.support.printed import printed
from tests.support.shipped import SPECS
from tests.support.visits import PROGRAM, audited, status

HERE, THERE = "hac-thanh", "dong-quang"
START_MS, END_MS = bounds("2026-11")
PATH = "/api/v1/drills/report.pdf"
Told = tuple[str, str, str, str, float | None]  # receiver, path, state, reason, ms to its acknowledgement


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Console]:
    async with console(tmp_path, {"fire": {}}, areas=AREAS, area_of={"p1": HERE, "p2": THERE}) as one, one.app.test_app():
        yield one


def keep(  # noqa: PLR0917 - what a run is
    fire: FireJournal, id_: str, premises: str, at_ms: float, state: str, told: Sequence[Told] = (), *, source: str = "simulated",
    reason: str = "",
) -> None:  # fmt: skip
    """A run as the journal has it."""
    moments = (None,) * 4 if state == "missed" else (at_ms, at_ms + 5.0, at_ms + 6.0, at_ms + 8.0)
    with fire.journal.writing() as connection:
        connection.execute(
            "INSERT INTO drill (id, premises, asked_by, source, device, point, value, state, reason, notice, due_ms, asked_ms, "
            "detector_ms, received_ms, decided_ms, durable_ms, ended_ms) "
            "VALUES (?, ?, 'schedule', ?, 'd1', 'alarm', 'true', ?, ?, '', ?, ?, ?, ?, ?, ?, ?)",
            (id_, premises, source, state, reason, at_ms, at_ms, *moments, at_ms + 20_000.0),
        )
        for receiver, path, how, why, took_ms in told:
            connection.execute(
                "INSERT INTO drill_delivery (drill, receiver, path, number, notice, state, reason, sent_ms, acked_ms, until_ms) "
                "VALUES (?, ?, ?, 1, '{}', ?, ?, ?, ?, 0)",
                (id_, receiver, path, how, why, at_ms + 10.0, None if took_ms is None else at_ms + took_ms),
            )


def november(fire: FireJournal) -> None:
    """Three that passed, one by a real detector; one that failed on the alternate path; one missed; others of other months."""
    hour = 3_600_000.0
    for number, took_ms in enumerate((40.0, 60.0, 1_100.0)):
        arc: Told = ("arc", "arc", "acknowledged", "", took_ms)
        keep(
            fire,
            f"D{number}",
            "p1",
            START_MS + number * 24 * hour,
            "passed",
            [arc],
            source="real" if number == 1 else "simulated",
        )
    arc2: Told = ("arc", "arc2", "failed", "connect_failed: nobody there", None)
    keep(fire, "D3", "p1", START_MS + 90 * hour, "failed", [("arc", "arc", "acknowledged", "", 80.0), arc2], reason="arc by arc2")
    keep(fire, "D4", "p2", END_MS - 1.0, "missed", reason="not_heard")
    keep(fire, "D5", "p1", START_MS - 1.0, "passed", [("arc", "arc", "acknowledged", "", 99_000.0)])
    keep(fire, "D6", "p1", END_MS, "failed", reason="not_heard")


async def report(client: Any, path: str) -> bytes:
    response = await client.get(path, headers=PROGRAM)
    assert response.status_code == 200, await response.get_data(as_text=True)
    return bytes(await response.get_data())


async def test_the_paper_of_a_month_sums_up_what_was_proved(made: Console, tmp_path: Path) -> None:
    november(made.fire)
    await Responses(made.registry.database).save("p1", Response(drills=Drills(every_days=7)), "an", None)
    made.directory = await made.registry.directory(SPECS)
    client = await made.client()
    pdf = await report(client, f"{PATH}?month=2026-11")
    text = printed(pdf, tmp_path)
    for said in (
        "Thử toàn tuyến báo cháy, tháng 2026-11",
        "01/11/2026 00:00:00 – 01/12/2026 00:00:00 (UTC+7); tháng chưa hết – the month is not over",
        "1/2 có lần đạt trong tháng – 1 of 2 passed in the month",
        "mô phỏng: 3, đầu báo thật: 1",
        "arc 4 4 0 70 1100",
        "arc2 (thay cho arc – in place of arc) 1 0 1 – –",
        "arc2: không kết nối được – no connection: nobody there",
        "Bỏ lỡ – Missed",
        "mỗi 7 ngày – every 7 days",
        "Trường Tiểu học Lê Lợi (p1)",
        "Chợ Vườn Hoa (p2)",
        "22 Lê Lợi, phường Hạc Thành",
    ):
        assert said in text, said
    assert "99000" not in text
    without = text[text.index("Premises without a drill plan") :]
    assert "Chợ Vườn Hoa (p2)" in without
    assert "(p1)" not in without
    verdict = await judged(pdf, authority_of(tmp_path).root_pem(Anchor.SERVICE))
    assert (verdict.intact, verdict.trusted) == (True, True)
    (entry,) = await audited(made, "report.drills")
    assert (entry["subject"], hashlib.sha256(pdf).hexdigest() in entry["detail"]) == ("2026-11", True)


async def test_each_sees_the_drills_of_their_areas_alone(made: Console, tmp_path: Path) -> None:
    november(made.fire)
    there = await made.client("xa", Grant(Role.VIEWER, THERE))
    text = printed(await report(there, f"{PATH}?month=2026-11"), tmp_path)
    assert "Chợ Vườn Hoa (p2)" in text
    assert "(p1)" not in text
    assert "arc" not in text.replace("march", "")
    assert await status(there, f"{PATH}?month=2026-11&area={HERE}") == 404
    assert await status(there, f"{PATH}?month=2026-13") == 422
    assert await status(made.app.test_client(), PATH) == 401
    assert PATH in await (await there.get("/coverage", headers=PROGRAM)).get_data(as_text=True)


def test_a_month_is_summed_the_same_from_a_file_and_from_a_server(journal_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(FireJournal(journal_place, ManualClock())) as fire:
        november(fire)
        with closing(connect_readonly(journal_place)) as connection:
            found = drill_month.read(connection, START_MS, END_MS, {"p1", "p2"})
            monkeypatch.setattr(drill_month, "WRONG", 1)
            fewer = drill_month.read(connection, START_MS, END_MS, {"p1", "p2"})
            nobody = drill_month.read(connection, START_MS, END_MS, ())
    assert found.premises["p2"] == PremisesSum(missed=1)
    ours = found.premises["p1"]
    assert (ours.simulated, ours.real, ours.passed, ours.failed, ours.worst_ms) == (3, 1, 3, 1, 1_100.0)
    assert ours.last_passed_ms == START_MS + 48 * 3_600_000.0 + 20_000.0
    assert (found.paths["arc", "arc"].p50_ms, found.paths["arc", "arc"].worst_ms) == (70.0, 1_100.0)
    assert [(one.id, one.reasons) for one in found.wrong] == [
        ("D3", (("arc2", "connect_failed: nobody there"),)), ("D4", (("", "not_heard"),)),
    ]  # fmt: skip
    assert (len(fewer.wrong), fewer.wrong_in_all) == (1, 2)
    assert nobody.premises == {}


def test_months_are_those_of_vietnam() -> None:
    assert bounds("2026-12")[1] == datetime(2027, 1, 1, tzinfo=ZONE).timestamp() * 1000.0
    assert last_month(datetime(2027, 1, 1, 0, 30, tzinfo=ZONE).timestamp() * 1000.0) == "2026-12"
    assert last_month(datetime(2026, 11, 30, 23, 30, tzinfo=ZONE).timestamp() * 1000.0) == "2026-10"
    for wrong in ("2026-13", "2026-1", "tháng 11", "2026-11-01", "1999-11"):
        with pytest.raises(Refused, match="bad_month"):
            bounds(wrong)


def test_a_city_of_many_premises_is_counted_beyond_what_is_listed_and_trouble_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill_paper, "PREMISES", 2)
    month = Month({f"p{i}": PremisesSum(simulated=1, failed=int(i == 3), passed=int(i != 3)) for i in range(4)})
    known = {f"p{i}": Premises(f"p{i}", f"Trường số {i}", "Lê Lợi", 19.8, 105.8, "A001") for i in range(4)}
    facts = drill_paper.Facts(
        month, "2026-11", START_MS, END_MS, frozenset(known), "", Directory(premises=known), "journal.db", "an", END_MS
    )
    text = printed(drill_paper.drawn(facts, Both(load("vi"), load("en"))), tmp_path)
    assert "Còn 2 cơ sở nữa không liệt kê" in text
    assert text.index("Trường số 3 (p3)") < text.index("Trường số 0 (p0)")
    assert "Trường số 1 (p1)" not in text
