"""A restore, on SQLite and PostgreSQL: nothing that only counts up goes back, whatever was done since the backup."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from tortoise.models import Model

from iotcore.app.common import anchors_of, recorded
from iotcore.clock import ManualClock
from iotcore.commands import doctor, restore
from iotcore.errors import StartError
from iotcore.journal import parked
from iotcore.journal.database import connect_readonly
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.journal.timeline import PARKED, timeline
from iotcore.keeper import overdue_notices
from iotcore.provision import heads, restored, revoke
from iotcore.provision.ca import Anchor, IssuedCertificate
from iotcore.registry import copying
from iotcore.registry.accounts import accounts
from iotcore.registry.admissions import Admissions
from iotcore.registry.database import MODELS
from iotcore.registry.enrolments import Enrolments
from iotcore.registry.migrations.gap import AUDIT_JUMP, ID_JUMP
from iotcore.registry.restored import VOIDED
from iotcore.registry.rights import Grant, Role
from iotcore.registry.sessions import From
from iotcore.registry.store import Registry
from iotcore.registry.tables_enrolment import ClaimRow, RequestRow
from iotcore.registry.tables_people import ApprovalRow
from iotcore.settings import load
from tests.support.backed_up import CHANNELS, Kept, rows
from tests.support.enrolling import LOT, Book, asking, said
from tests.support.registered import SPECS

pytestmark = pytest.mark.timeout(120)
HOUR_S = 3_600.0
NEW = "new"
HEADS = Path("audit", "heads", heads.HEADS_FILE)


@pytest.fixture
def kept(registry_url: str, tmp_path: Path) -> Kept:
    made = Kept(tmp_path / "platform", ManualClock(), registry_url if registry_url.startswith("postgres") else "")
    made.root.mkdir()
    made.begin()
    return made


@pytest.fixture
def plain(tmp_path: Path) -> Kept:
    """Where the registry makes no difference."""
    made = Kept(tmp_path / "platform", ManualClock())
    made.root.mkdir()
    made.begin()
    return made


def restored_to(kept: Kept, file: Path, **more: Any) -> tuple[restore.Report, str]:
    """Restore elsewhere, as after a loss; the report, and the URL of the registry there."""
    report = kept.restore(file, kept.root / NEW, **{"over": bool(kept.url), **more})
    return report, kept.url or f"sqlite://{report.folder / 'registry.db'}"


def certified(kept: Kept, device: str) -> IssuedCertificate:
    """A certificate, issued and recorded."""
    issued = kept.authority().issue_device(Anchor.FIRE, ec.generate_private_key(ec.SECP256R1()).public_key(), device)
    kept.ask(lambda registry: registry.record_certificate(recorded(issued), "est"))
    return issued


async def enrolled(registry: Registry, device: str, secret: str) -> str:
    """The anchor of the certificate that a secret brings, or why it brings none."""
    async with Admissions(registry.database, lambda model: anchors_of(SPECS, model)) as admissions:
        return await said(Book(registry, admissions), asking(device, secret))


def test_what_was_open_to_enrol_with_is_void_for_it_may_have_been_used_since(kept: Kept) -> None:
    async def prepared(registry: Registry) -> str:
        enrolments = Enrolments(registry.database)
        await enrolments.tell("lot-1", LOT, 10 * HOUR_S, "t")
        await enrolments.bind("SN1", "d3", "t")
        await enrolments.create_batch_token("lot-1", 5, 10 * HOUR_S, "t")
        return await registry.create_token("d1", 10 * HOUR_S)

    token = kept.ask(prepared)
    expired = kept.ask(lambda registry: registry.create_token("d2", 10.0))
    file = kept.make()
    assert kept.ask(lambda registry: enrolled(registry, "d1", token)) == "fire"
    assert kept.ask(lambda registry: enrolled(registry, "SN1", "secret 1")) == "fire"
    kept.clock.advance(60.0)
    report, url = restored_to(kept, file)
    assert report.moved.voided == {"claim_token": ["d1"], "batch_token": ["lot-1"], "claim": ["d3"]}
    assert kept.ask(lambda registry: enrolled(registry, "d1", token), url) == "token"
    assert kept.ask(lambda registry: enrolled(registry, "d2", expired), url) == "token"
    assert kept.ask(lambda registry: enrolled(registry, "SN1", "secret 1"), url) != "fire"
    actions = [one.deed.action for one in kept.ask(lambda registry: registry.audit_entries(), url)]
    since = actions[actions.index("registry.restored") :]
    assert [one for one in since if one.endswith((".void", ".release"))] == [
        "claim_token.void",
        "batch_token.void",
        "unit.release",
    ]
    assert any(line.startswith("TOKENS are void (iotcore token create DEVICE)") for line in report.lines())


def test_whoever_was_signed_in_signs_in_again_and_a_program_needs_a_new_token(kept: Kept) -> None:
    async def signed_in(registry: Registry) -> tuple[str, str, str]:
        people = accounts(registry.database, HOUR_S, 10 * HOUR_S)
        await people.people.add("lan", [Grant(Role.ADMIN)], "t")
        session = await people.sessions.open("lan", "password", From("127.0.0.1"))
        link = await people.sessions.make_link("lan", HOUR_S, "t")
        token = await people.tokens.create("lan", "report", [Grant(Role.VIEWER)], HOUR_S, "lan")
        return session.session, link, token

    async def let_in(registry: Registry) -> list[object]:
        people = accounts(registry.database, HOUR_S, 10 * HOUR_S)
        return [await people.sessions.visitor(session), await people.sessions.link(link), await people.tokens.visitor(token)]

    session, link, token = kept.ask(signed_in)
    assert None not in kept.ask(let_in)
    report, url = restored_to(kept, kept.make())
    assert kept.ask(let_in, url) == [None, None, None]
    assert report.moved.voided == {"sign_in_link": ["lan"], "session": ["lan"], "api_token": ["lan"]}


def test_everything_that_lets_somebody_in_for_a_time_is_used_up_by_a_restore() -> None:
    """A table that expires and is not named in `VOIDED` would let in again who was put out since."""
    expire = {
        model for name in MODELS for model in vars(import_module(name)).values()
        if isinstance(model, type) and issubclass(model, Model) and "expires_ms" in model._meta.fields_map
    }  # fmt: skip
    assert expire == {*VOIDED, ApprovalRow, ClaimRow, RequestRow}  # these three are seen to one by one


def test_ids_of_changes_and_intents_go_on_beyond_every_cursor_that_somebody_kept(kept: Kept) -> None:
    kept.ask(lambda registry: registry.intent("acknowledge", "F1", "t"))
    file = kept.make()
    late_intent = kept.ask(lambda registry: registry.intent("acknowledge", "F2", "t"))
    late_change = kept.ask(lambda registry: registry.last_change())
    _, url = restored_to(kept, file)
    new_intent = kept.ask(lambda registry: registry.intent("acknowledge", "F3", "t"), url)
    assert new_intent > late_intent + ID_JUMP - 10
    changes = kept.ask(lambda registry: registry.changes_after(late_change), url)
    assert {change.kind for change in changes} == {"intent"}
    assert [one.key for one in kept.ask(lambda registry: registry.intents_after(late_intent), url)] == ["F3"]


def test_the_audit_goes_on_after_a_gap_that_is_signed_and_that_alone_is_found(kept: Kept) -> None:
    file = kept.make()
    before = kept.audit(kept.data).end.seq - 1  # `backup.make` is noted after the copy
    for _ in range(5):
        kept.ask(lambda registry: registry.note("t", "enrolment_refused", "d1"))
    kept.export_head()  # what an auditor has, of entries that are lost
    exported = kept.root / "auditor.jsonl"
    exported.write_bytes((kept.data / HEADS).read_bytes())
    report, url = restored_to(kept, file, heads=exported)
    assert (report.moved.audit_after, report.moved.audit_entry) == (before, before + 6 + AUDIT_JUMP)
    kept.ask(lambda registry: registry.note("t", "enrolment_refused", "d2"), url)
    with exported.open("ab") as line:
        line.write((report.folder / HEADS).read_bytes().splitlines(keepends=True)[-1])
    verdict = kept.audit(report.folder, exported, url)
    assert verdict.whole
    assert [(one.seq, one.reason) for one in verdict.breaks] == [(report.moved.audit_entry, "restored")]
    assert verdict.heads == 3
    assert f"GAP  restored at entry {report.moved.audit_entry}: what was done after entry {before} was lost" in verdict.lines()[1]


def test_a_gap_that_somebody_has_made_up_is_found(plain: Kept) -> None:
    """Whoever writes the database can write such an entry; sign it he cannot."""
    file = plain.make()
    report, _ = restored_to(plain, file)
    heads_file = report.folder / HEADS
    lines = heads_file.read_bytes().splitlines(keepends=True)
    heads_file.write_bytes(b"".join(lines[:-1]))  # without the signed head of the restore
    verdict = plain.audit(report.folder, heads_file)
    assert not verdict.whole
    assert [(one.seq, one.reason) for one in verdict.breaks] == [(report.moved.audit_entry, "unsigned")]
    changed = msgspec.json.decode(lines[-1], type=dict[str, Any]) | {"after": [3, "0" * 64]}
    heads_file.write_bytes(b"".join([*lines[:-1], msgspec.json.encode(changed) + b"\n"]))
    assert [one.reason for one in plain.audit(report.folder, heads_file).breaks] == ["unsigned"]


def test_the_keeper_goes_on_signing_the_restored_chain(kept: Kept) -> None:
    file = kept.make()
    kept.export_head()
    report, url = restored_to(kept, file)
    again = Kept(kept.root, kept.clock, kept.url)
    again.config.write_text((report.folder / "iotcore.toml").read_text(encoding="utf-8"), encoding="utf-8")
    again.export_head()
    assert kept.audit(report.folder, report.folder / HEADS, url).whole


def test_a_receiver_gets_no_number_that_it_has_seen_lately(plain: Kept) -> None:
    for seq in range(1, 4):
        plain.burn(seq, f"p{seq}")
    file = plain.make()
    since = [plain.burn(seq, f"p{seq}") for seq in range(4, 9)]
    given = {number for (number,) in rows(plain.data / "journal.db", "SELECT number FROM outbox WHERE channel = 'arc'")}
    report, _ = restored_to(plain, file)
    assert report.moved.channels == {"arc": 5003, "cad": 5003}
    new = plain.burn(9, "p9", report.folder)
    assert new not in since
    asked = "SELECT number FROM outbox WHERE channel = 'arc' AND incident = ?"
    ((number,),) = rows(report.folder / "journal.db", asked, new)
    assert number not in given
    assert number == 5004


@pytest.mark.parametrize(("number", "after"), [(1, 5001), (3999, 8999), (4000, 1), (8999, 5000)])
def test_the_numbers_wrap(tmp_path: Path, number: int, after: int) -> None:
    with closing(Journal(tmp_path / "journal.db", ManualClock(), CHANNELS)) as journal:
        parked.carry_forward(journal, {"arc": number})
        assert journal.connection.execute("SELECT number FROM channel_number").fetchall() == [(after,)]


def test_an_old_notice_waits_for_a_person_and_a_young_one_is_sent_under_its_number(plain: Kept) -> None:
    old = plain.burn(1, "p1")
    plain.clock.advance(16 * 60.0)
    young = plain.burn(2, "p2")
    file = plain.make()
    report, _ = restored_to(plain, file)
    assert {(one.incident, one.event, one.channel) for one in report.moved.parked} == {(old, "alarm", name) for name in CHANNELS}
    assert sum(f"NOT SENT: {old}" in line for line in report.lines()) == 2
    journal_file = report.folder / "journal.db"
    assert [late for late in overdue_notices(journal_file, plain.clock, {}) if old in late] == [
        f"{old} alarm → {name} ({PARKED})" for name in CHANNELS
    ]
    told = asyncio.run(doctor._journal(load(report.folder / "iotcore.toml", {})))
    assert (told.well, told.said) == (False, "2 notices wait for a person: of a restored backup, or rejected for an hour")
    with closing(Journal(journal_file, plain.clock, CHANNELS)) as journal:
        outbox = SqlOutbox(journal)
        leased = [outbox.lease("arc", "t", plain.clock.wall_ms(), 1_000.0)]
        assert [(row.incident, row.number) for row in leased if row] == [(young, 2)]
        with closing(connect_readonly(journal_file)) as reader:
            shown = timeline(reader, old)
        assert shown is not None
        assert {one.last_error for one in shown.deliveries} == {PARKED}
        assert parked.decide(journal, old, "send", "t") == 2
        assert parked.decide(journal, old, "send", "t") == 0
        outbox.acknowledged(leased[0].id, plain.clock.wall_ms(), "ACK")  # type: ignore[union-attr]
        sent = outbox.lease("arc", "t", plain.clock.wall_ms(), 1_000.0)
        assert sent is not None
        assert (sent.incident, sent.number, sent.notice.delayed) == (old, 5003, True)
        assert parked.listed(journal.connection) == []


def test_a_notice_that_is_dropped_or_of_a_closed_incident_is_never_sent(plain: Kept) -> None:
    dropped, closed = plain.burn(1, "p1"), plain.burn(2, "p2")
    plain.clock.advance(HOUR_S)
    report, _ = restored_to(plain, plain.make())
    with closing(Journal(report.folder / "journal.db", plain.clock, CHANNELS)) as journal:
        assert parked.decide(journal, dropped, "drop", "t") == 2
        assert journal.reset(closed, ["d-p2"], "t", plain.clock.wall_ms())
        assert parked.decide(journal, closed, "send", "t") == 2
        assert SqlOutbox(journal).lease("arc", "t", plain.clock.wall_ms(), 1_000.0) is None
        assert overdue_notices(report.folder / "journal.db", plain.clock, {}) == []


def test_no_list_number_is_given_twice_and_the_lists_stay_as_they_were(kept: Kept) -> None:
    issued = certified(kept, "d1")
    kept.authority().revoke(Anchor.FIRE, issued.serial)
    file = kept.make()
    for _ in range(3):
        kept.authority().republish()
    latest = restored.numbers(kept.data / "ca")
    report, _ = restored_to(kept, file)
    after = restored.numbers(report.folder / "ca")
    assert all(after[name] > latest[name] + 90_000 for name in latest)
    assert kept.authority(report.folder).is_revoked(Anchor.FIRE, issued.serial)
    assert any("REVOCATIONS made since" in line for line in report.lines())


def test_what_a_newer_list_has_revoked_stays_revoked_and_the_registry_knows(kept: Kept) -> None:
    stolen, paused, replaced = (certified(kept, name) for name in ("d1", "d2", "d3"))
    file = kept.make()
    later = certified(kept, "d4")
    authority = kept.authority()
    authority.revoke(Anchor.FIRE, stolen.serial, x509.ReasonFlags.key_compromise)
    authority.revoke(Anchor.FIRE, paused.serial, x509.ReasonFlags.certificate_hold)
    authority.revoke(Anchor.FIRE, replaced.serial, x509.ReasonFlags.superseded)
    authority.revoke(Anchor.FIRE, later.serial, x509.ReasonFlags.key_compromise)
    newer = kept.root / "fire.crl"
    newer.write_bytes(authority.published_crl("fire") or b"")
    report, url = restored_to(kept, file, crls=(newer,))
    assert (report.moved.suspended, report.moved.revoked, report.moved.lists) == (["d2"], ["d1"], 1)
    again = kept.authority(report.folder)
    standings = kept.ask(lambda registry: registry.standings(revoke.held(revoke.listed(again))), url)
    assert revoke.steps(standings, revoke.listed(again)) == []  # the keeper takes nothing back
    for issued in (stolen, paused, replaced, later):
        assert again.is_revoked(Anchor.FIRE, issued.serial), issued.cn


def test_a_list_that_is_not_ours_is_refused_and_nothing_is_made(plain: Kept, tmp_path: Path) -> None:
    other = Kept(tmp_path / "other", plain.clock)
    other.root.mkdir()
    other.begin()
    strange = tmp_path / "strange.crl"
    strange.write_bytes(other.authority().published_crl("fire") or b"")
    with pytest.raises(StartError, match="No authority of this backup has signed"):
        plain.restore(plain.make(), plain.root / NEW, crls=(strange,))
    assert not (plain.root / NEW).exists()


def test_over_a_platform_that_is_there_what_it_knows_counts(kept: Kept) -> None:
    issued = certified(kept, "d1")
    kept.burn(1)
    file = kept.make()
    for seq in range(2, 6):
        kept.burn(seq, f"p{seq}")
    kept.authority().revoke(Anchor.FIRE, issued.serial, x509.ReasonFlags.key_compromise)
    kept.export_head()
    with pytest.raises(StartError, match="is not empty"):
        kept.restore(file, kept.data)
    report = kept.restore(file, kept.data, over=True)
    assert report.moved.channels == {"arc": 5005, "cad": 5005}
    assert report.moved.revoked == ["d1"]
    aside = Path(report.aside)
    assert rows(aside / "journal.db", "SELECT count(*) FROM incident") == [(5,)]
    assert kept.audit(report.folder, report.folder / HEADS, kept.url).whole
    if kept.url:
        moved = copying.in_schema(kept.url, f"registry_before_{aside.name.partition('.before-')[2].lower()}")
        entries = kept.ask(lambda registry: registry.audit_entries(), moved)
        assert entries[-1].deed.action == "backup.make"


def test_what_was_enrolled_since_is_let_in_recorded_at_renewal_and_named_for_a_look(kept: Kept) -> None:
    certified(kept, "d1")
    file = kept.make()
    later = certified(kept, "d2")
    report, url = restored_to(kept, file)
    assert "d2" in report.moved.without_certificate
    assert "d1" not in report.moved.without_certificate
    again = kept.authority(report.folder)
    assert not again.is_revoked(Anchor.FIRE, later.serial)
    assert not kept.ask(lambda registry: registry.has_certificate(later.serial), url)
    shown = x509.load_pem_x509_certificate(later.pem)
    assert again.anchor_of(shown) is Anchor.FIRE
    assert kept.ask(_directory, url)["d2"]


async def _directory(registry: Registry) -> dict[str, bool]:
    return {name: binding.accepted for name, binding in (await registry.directory(SPECS)).devices.items()}


def test_a_second_restore_of_the_same_backup_goes_on_after_the_first(plain: Kept) -> None:
    file = plain.make()
    first = plain.restore(file, plain.root / NEW)
    time.sleep(0.01)
    plain.clock.advance(1.0)
    second = plain.restore(file, plain.root / NEW, over=True)
    assert second.moved.audit_entry > first.moved.audit_entry
    verdict = plain.audit(second.folder, second.folder / HEADS)
    assert verdict.whole
    assert [one.reason for one in verdict.breaks] == ["restored"]
