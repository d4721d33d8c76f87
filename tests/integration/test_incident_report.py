"""The after-action report of an incident: what the journal knows stands on it, in both languages, signed, for who may see it."""

from __future__ import annotations

import dataclasses
import hashlib
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from iotcore.clock import ManualClock, SystemClock
from iotcore.journal import acts, cad, escalations, failures, objectives, review, story
from iotcore.journal.database import Place, connect_readonly
from iotcore.journal.escalations import Telling, Unanswered
from iotcore.journal.records import Batch, Raise
from iotcore.journal.review import Review
from iotcore.provision.ca import Anchor
from iotcore.registry.directory import Target
from iotcore.registry.disablements import Disablements
from iotcore.registry.rights import Grant, Role
from iotcore.web.bilingual import Both
from iotcore.web.words import load
from tests.integration.test_web_rights import AREAS
from tests.support.console import Console, authority_of, console
from tests.support.fire import NOON_MS, notice, raise_
from tests.support.fire_journal import ARC, CAD, FireJournal
from tests.support.papers import judged
from tests.support.printed import pages, printed
from tests.support.shipped import SPECS
from tests.support.visits import PROGRAM, audited, status

HERE, THERE = "hac-thanh", "dong-quang"
BOTH = Both(load("vi"), load("en"))


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Console]:
    async with console(tmp_path, {"fire": {}}, areas=AREAS, area_of={"p1": HERE, "p2": THERE}) as one, one.app.test_app():
        yield one


async def report(client: Any, incident: str) -> bytes:
    response = await client.get(f"/api/v1/incidents/{incident}/report.pdf", headers=PROGRAM)
    assert response.status_code == 200, await response.get_data(as_text=True)
    assert response.headers["Content-Type"] == "application/pdf"
    assert f"{incident}.pdf" in response.headers["Content-Disposition"]
    return bytes(await response.get_data())


def looked_at(made: Console, incident: str, folder: Path) -> Review:
    connection = connect_readonly(folder / "journal.db")
    try:
        found = review.read(connection, incident, ["d1"], made.clock.wall_ms())
    finally:
        connection.close()
    assert found is not None
    return found


def at(made: Console, one: Raise) -> Raise:
    """The same decision as of now."""
    now_ms = made.clock.wall_ms()
    return dataclasses.replace(one, detector_ms=now_ms - 15.0, received_ms=now_ms, decided_ms=now_ms + 0.5)


async def fought(made: Console) -> str:
    """A fire with everything: a second point, a slow receiver, escalation, an owner, acts, a crew."""
    made.clock.advance((SystemClock().wall_ms() - made.clock.wall_ms()) / 1000.0)  # the registry's is real
    await Disablements(made.registry.database).disable(Target("zone", "p1-z1"), 3_600_000, "sơn trần bếp", "ky", SPECS)
    made.clock.advance(2.0)
    fire, journal, clock = made.fire, made.fire.journal, made.clock
    incident = fire.burn()
    fire.refuse("not_json")
    fire.deliver(ARC)
    for reason in ("no_reply: 20 s", "no_reply: 20 s", "duh: the receiver does not understand the event"):
        fire.fail(CAD, reason)
        clock.advance(1.0)
    second = msgspec.structs.replace(notice("d1", "p1", "heat-threshold"), point="temperature", reason="rising")
    journal.commit(Batch(raises=(at(made, raise_(9, of=second)),)))
    clock.advance(30.0)
    now = clock.wall_ms()
    with journal.writing() as connection:
        one = Unanswered(incident, "p1", now, 0)
        assert escalations.tell(connection, one, Telling(1, everybody=True, receivers=(), people=()), (), now)
    fire.deliver(CAD)
    clock.advance(10.0)
    with journal.writing() as connection:
        acts.owner_said(connection, incident, "denied", "chủ nhà", clock.wall_ms())
        for number, status in enumerate(("accepted", "dispatched", "on_scene", "closed")):
            ended = "báo giả: nấu ăn" if status == "closed" else ""
            said = cad.Update(id=f"u{number}", incident=incident, status=status, unit="Xe 114-02", disposition=ended)  # type: ignore[arg-type]
            assert cad.apply(connection, CAD, said, clock.wall_ms())
            clock.advance(60.0)
        acts.silence(connection, incident, "an", clock.wall_ms())
    assert journal.acknowledge(incident, "bình", clock.wall_ms())
    clock.advance(5.0)
    assert journal.reset(incident, ["d1"], "bình", clock.wall_ms())
    return incident


async def test_the_paper_says_what_the_journal_knows(made: Console, tmp_path: Path) -> None:
    incident = await fought(made)
    text, known = printed(await report(await made.client(), incident), tmp_path), looked_at(made, incident, tmp_path)
    assert "Báo cáo sau sự cố cháy After-action report of a fire" in text
    assert incident in text
    assert "CHƯA KẾT THÚC" not in text
    place = (
        "Trường Tiểu học Lê Lợi (p1)",
        "12 Lê Lợi, phường Hạc Thành, Thanh Hóa",
        "19.800000, 105.770000",
        "Khu vực 3 – Bếp ăn",
    )
    first = ("Đầu báo bếp ăn (d1): Khói – Smoke", "0,52 dB/m", "vượt ngưỡng – above the threshold", "smoke-threshold")
    for said in (*place, *first, "điểm: 2, thiết bị: 1", "Đầu báo bếp ăn (d1): Nhiệt độ – Temperature"):
        assert said in text, said
    before_ms = known.detector_ms
    for name, at_ms in known.moments():
        assert at_ms is not None, name
        spans = f"{BOTH.span(at_ms - before_ms)} {BOTH.span(at_ms - known.detector_ms)}"
        assert f"{BOTH.moment(at_ms)} {spans}" in text or name == "detector", (name, spans)
        before_ms = at_ms
    for line in known.story:
        assert f"{BOTH.moment(line.at_ms)} " in text
        assert BOTH.of("cad" if line.kind in cad.STATUSES.values() else "story", line.kind) in text, line.kind
    for said in (
        "3: không trả lời – no reply × 2; không hiểu DUH – not understood: DUH × 1",
        "KHÔNG ĐẠT – NOT KEPT, 33028 ms, cad",
        "đạt – kept, 1,2 ms",
        "bậc 1 – step 1: arc, cad",
        "chủ cơ sở báo không có cháy – the owner denies the fire",
        "Xe 114-02, báo giả: nấu ăn",
        "ky: sơn trần bếp",
        "Tin bị từ chối: không phải JSON – Message refused: not JSON",
        "journal.db",
    ):
        assert said in text, said
    assert "Tắt âm – Silenced" in text
    assert text.count("bình") >= 3


async def test_it_is_signed_its_hash_is_in_the_audit_and_an_incident_that_has_not_ended_says_so(
    made: Console, tmp_path: Path
) -> None:
    incident = made.fire.burn()
    pdf = await report(await made.client(), incident)
    verdict = await judged(pdf, authority_of(tmp_path).root_pem(Anchor.SERVICE))
    assert (verdict.intact, verdict.trusted, verdict.covers_all) == (True, True, True)
    (entry,) = await audited(made, "report.incident")
    assert entry["subject"] == incident
    assert hashlib.sha256(pdf).hexdigest() in entry["detail"]
    text = printed(pdf, tmp_path)
    assert "Báo cáo sự cố cháy chưa kết thúc Report of a fire that has not ended yet" in text
    assert "CHƯA KẾT THÚC – NOT ENDED YET" in text
    assert "Không có vô hiệu hóa, kiểm tra hay sự cố kỹ thuật nào được ghi." in text


async def test_who_may_not_see_the_area_gets_nothing(made: Console) -> None:
    incident = made.fire.burn()
    path = f"/api/v1/incidents/{incident}/report.pdf"
    here, there = await made.client("ha", Grant(Role.VIEWER, HERE)), await made.client("xa", Grant(Role.VIEWER, THERE))
    assert await status(here, path) == 200
    assert await status(there, path) == 404
    assert await status(made.app.test_client(), path) == 401
    assert await status(here, "/api/v1/incidents/F20200101-000000-ABCDEF/report.pdf") == 404
    assert path in await (await here.get(f"/incidents/{incident}", headers=PROGRAM)).get_data(as_text=True)
    assert len(await audited(made, "report.incident")) == 1, "of what nobody got nothing is noted"


async def test_ten_thousand_points_are_counted_and_the_paper_stays_small(made: Console, tmp_path: Path) -> None:
    incident, journal = made.fire.burn(), made.fire.journal
    points = [(f"panel-{i // 20}", f"d{i:05}_fire") for i in range(9_999)]
    with journal.writing() as connection:
        connection.executemany(
            "INSERT INTO incident_point (incident, device, point, place, at_ms) VALUES (?, ?, ?, ?, ?)",
            [(incident, *one, place, made.clock.wall_ms()) for place, one in enumerate(points, 2)],
        )
        connection.executemany(
            "INSERT INTO incident_event (incident, at_ms, kind, by, detail) VALUES (?, ?, ?, '', ?)",
            [(incident, made.clock.wall_ms(), story.JOINED, f"{device}/{point}: active") for device, point in points],
        )
    pdf = await report(await made.client(), incident)
    text = printed(pdf, tmp_path)
    assert "điểm: 10000, thiết bị: 501" in text
    assert "Hiện 100 điểm đầu tiên; 9900 điểm nữa có trong nhật ký." in text
    assert f"Thêm điểm báo – Another point: {9_999 - review.LINES}" in text
    assert pages(pdf, tmp_path) <= 8
    tracemalloc.start()
    known = looked_at(made, incident, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(known.points) == review.POINTS
    assert peak < 1_000_000, "bytes, whatever the incident"


def test_a_review_reads_the_same_from_a_file_and_from_a_server(journal_place: Place) -> None:
    with closing(FireJournal(journal_place, ManualClock(NOON_MS))) as fire:
        incident = fire.burn()
        fire.fail(ARC, "nak: the receiver refused")
        fire.clock.advance(4.0)
        assert fire.outbox.hedge(ARC, "arc2", fire.clock.wall_ms(), 3_000.0) == 1
        fire.deliver("arc2")
        fire.refuse("not_json")
        with closing(connect_readonly(journal_place)) as connection:
            found = review.read(connection, incident, ["d1"], fire.clock.wall_ms())
            assert review.read(connection, "F20200101-000000-ABCDEF", [], 0.0) is None
            assert review.premises_of(connection, incident) == "p1"
    assert found is not None
    assert [(way.channel, way.failed, [one.kind for one in way.failures]) for way in found.ways] == [
        (ARC, 1, ["nak"]), (CAD, 0, []), ("arc2", 0, []),
    ]  # fmt: skip
    assert [(one.device, one.what) for one in found.standing] == [("d1", "refused:not_json")]
    judged_ = {one.name: (one.verdict, one.where) for one in objectives.judge(found, NOON_MS + 5_000.0)}
    assert judged_["hedge"] == ("broken", (CAD,)), "arc has its alternate"
    assert judged_["delivery"] == ("open", ())


def test_a_receiver_that_answers_nonsense_fills_nothing(tmp_path: Path) -> None:
    with closing(FireJournal(tmp_path / "journal.db", ManualClock(NOON_MS))) as fire:
        incident = fire.burn()
        for i in range(60):
            fire.fail(CAD, f"http_{i % 30 + 400}: nonsense")
            fire.clock.advance(1.0)
        found = failures.of_incident(fire.journal.connection, incident)
    assert len(found) == failures.MOST_KINDS + 1
    assert sum(one.times for one in found) == 60
    assert max(found, key=lambda one: one.times).kind == failures.OTHER
