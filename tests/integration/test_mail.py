"""E-mail against a mail server that is not ours: what people read, whether a repeat is one, and what a server may say."""

from __future__ import annotations

import ssl
from typing import Any

import msgspec
import pytest

from iotcore.clock import SystemClock
from iotcore.dispatch.mail import MailChannel
from iotcore.errors import ConfigError, DeliveryError
from iotcore.journal.records import OutboxRow
from iotcore.settings import check
from iotcore.settings_channels import MailReceiver
from tests.support.certificates import ThrowawayAuthority
from tests.support.fire import NOON_MS, full_notice
from tests.support.mosquitto import TlsFiles
from tests.support.ports import free_port
from tests.support.smtp import MailBox, mail_server

DUTY, CHIEF = "truc@pccc.example", "chihuy@pccc.example"


def channel(box: MailBox, **changes: Any) -> MailChannel:
    receiver = MailReceiver("mail", "localhost", "iot@thanhhoa.example", [DUTY, CHIEF], box.port, "none", reply_timeout_s=3.0)
    return MailChannel(msgspec.structs.replace(receiver, **changes), SystemClock())


def row(number: int = 7, **changes: Any) -> OutboxRow:
    told = full_notice(**changes)
    return OutboxRow(number, told.incident, "mail", number, 0, told)


def ignore(at_ms: float) -> None:
    del at_ms


async def test_a_fire_is_told_in_both_languages_as_text_and_as_a_page() -> None:
    moments: list[float] = []
    async with mail_server() as box:
        assert await channel(box).send(row(), moments.append) == "accepted for 2 of 2"
    assert (box.to, len(moments)) == ([DUTY, CHIEF], 2)
    mail = box.mails[0]
    assert mail["Subject"] == "BÁO CHÁY: khói - Chợ Vườn Hoa [F20261122-020000-3FA9C1]"
    assert (mail["From"], mail["To"]) == ("iot@thanhhoa.example", DUTY)
    assert mail["Date"].datetime.isoformat() == "2026-11-22T09:00:00+07:00"
    assert mail["Auto-Submitted"] == "auto-generated"
    plain, page = (mail.get_body((kind,)) for kind in ("plain", "html"))
    assert plain is not None
    assert page is not None
    text = plain.get_content()
    assert "Địa chỉ: Đường Lê Hoàn, Thanh Hóa" in text
    assert "Water: Trụ 12, trước cổng" in text
    assert "Contacts: Bảo vệ, trực đêm, +842373852222, has the keys; Ông Hà, +84913000111" in text
    assert "<th align=left valign=top>Address</th><td>Đường Lê Hoàn, Thanh Hóa</td>" in page.get_content()


async def test_a_repeat_is_recognisable_and_what_comes_later_stands_below_the_first() -> None:
    async with mail_server() as box:
        later: list[dict[str, Any]] = [{}, {}, {"event": "update", "made_ms": NOON_MS + 1e4}, {"event": "restore"}]
        for number, changes in enumerate(later):
            await channel(box, to=[DUTY]).send(row(number, **changes), ignore)
    first, again, update, restore = box.mails
    assert first["Message-ID"] == again["Message-ID"]
    assert len({one["Message-ID"] for one in box.mails}) == 3
    assert first["References"] is None
    assert update["References"] == restore["In-Reply-To"] == first["Message-ID"]
    assert restore["Subject"].startswith("KẾT THÚC BÁO CHÁY")


async def test_nothing_that_is_registered_makes_a_header_or_a_tag() -> None:
    evil = "Kho\r\nBcc: all@example.org\r\n\r\n<script>alert(1)</script>"
    async with mail_server() as box:
        await channel(box, to=[DUTY]).send(row(premises_name=evil, address="<b>&"), ignore)
    (mail,) = box.mails
    assert mail["Bcc"] is None
    page = mail.get_body(("html",))
    assert page is not None
    assert "<script>" not in page.get_content()
    assert "&lt;b&gt;&amp;" in page.get_content()


async def test_a_server_that_defers_is_asked_again_for_whom_it_deferred() -> None:
    async with mail_server() as box:
        out = channel(box)
        box.refuse[CHIEF] = "451 4.7.1 greylisted"
        with pytest.raises(DeliveryError, match="451") as caught:
            await out.send(row(), ignore)
        assert (caught.value.reason, caught.value.recoverable) == ("deferred", True)
        box.refuse.clear()
        assert await out.send(row(), ignore) == "accepted for 2 of 2"
    assert box.to == [DUTY, CHIEF]  # nobody twice


async def test_a_server_that_refuses_for_good_is_named() -> None:
    async with mail_server() as box:
        box.refuse[CHIEF] = "550 5.1.1 no such user"
        with pytest.raises(DeliveryError, match=r"550 5\.1\.1 no such user") as caught:
            await channel(box).send(row(), ignore)
        assert (caught.value.reason, caught.value.recoverable) == ("rejected", False)
    assert box.to == [DUTY]


async def test_nobody_listening_is_named() -> None:
    with pytest.raises(DeliveryError, match="connect_failed"):
        await channel(MailBox(free_port())).send(row(), ignore)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate for localhost, and whom to trust for it."""
    return ThrowawayAuthority(tmp_path_factory.mktemp("mail")).server()


def context(shown: TlsFiles) -> ssl.SSLContext:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(shown.cert_file, shown.key_file)
    return server


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_password_goes_only_over_tls_to_a_server_that_is_who_it_says(security: Any, shown: TlsFiles) -> None:
    options = {"security": security, "ca_file": str(shown.ca_file)}
    async with mail_server(security, context(shown), auth=security == "starttls") as box:
        more = {"username": "iot", "password": "geheim"} if security == "starttls" else {}
        assert await channel(box, **options, **more).send(row(), ignore) == "accepted for 2 of 2"
        assert box.encrypted == [True, True]
        with pytest.raises(DeliveryError) as caught:
            await channel(box, **options | {"ca_file": ""}).send(row(), ignore)  # nobody vouches for it
        assert (caught.value.reason in {"tls", "connect_failed"}, caught.value.recoverable) == (True, True)
        if more:
            with pytest.raises(DeliveryError, match="not_let_in") as refused:
                await channel(box, **options, username="iot", password="wrong").send(row(), ignore)
            assert "wrong" not in str(refused.value)


async def test_a_server_without_starttls_gets_nothing(shown: TlsFiles) -> None:
    async with mail_server() as box:
        with pytest.raises(DeliveryError):
            await channel(box, security="starttls", ca_file=str(shown.ca_file)).send(row(), ignore)
    assert box.mails == []


def test_settings_keep_a_password_off_a_plain_connection() -> None:
    one = {"kind": "mail", "name": "m", "host": "h", "sender": "a@b", "to": ["c@d"]}
    receivers = [one | {"security": "none", "username": "u", "password": "p"}, one | {"name": "n", "username": "u"}]
    with pytest.raises(ConfigError) as caught:
        check({"data": "d", "receivers": receivers}, "f")
    assert [problem.path for problem in caught.value.problems] == ["receivers[0].security", "receivers[1].password"]
