"""The channel to people by e-mail: one message to each address and event, in both languages, text and simple HTML.

The Message-ID follows from incident, event and address, so that a repeat is recognised as one; updates and the end of a fire
refer to its first message, and stand below it in a mail program.
"""

from __future__ import annotations

import asyncio
import hashlib
import html
import ssl
from collections import OrderedDict
from collections.abc import Callable
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime

import aiosmtplib

from iotcore.clock import Clock
from iotcore.dispatch import texts
from iotcore.dispatch.telegram import clean
from iotcore.errors import DeliveryError
from iotcore.journal.records import Notice, OutboxRow
from iotcore.settings_channels import MailReceiver

PERMANENT = 500  # SMTP replies from here on mean: not so, never (RFC 5321, 4.2.1)
REMEMBERED = 1_000  # messages of which some addresses have theirs already
MAX_SUBJECT = 200


class MailChannel:
    """Sends notices through one mail server; implements `iotcore.dispatch.outbox.Channel`."""

    def __init__(self, receiver: MailReceiver, clock: Clock) -> None:
        self._receiver = receiver
        self._clock = clock
        self._done: OrderedDict[tuple[str, str, int], set[str]] = OrderedDict()  # who has which

    async def send(self, row: OutboxRow, sent: Callable[[float], None]) -> str:
        """Send a notice to everybody; returns the server's last word.

        Raises:
            DeliveryError: somebody did not get it; not recoverable when the server said so for good (5yz) to all who are left.
        """
        told = row.incident, row.notice.event, row.part  # not the row's id: the emergency's outbox has its own
        done = self._done.setdefault(told, set())
        while len(self._done) > REMEMBERED:
            self._done.popitem(last=False)
        try:
            async with asyncio.timeout(self._receiver.reply_timeout_s * 3):
                failures, said = await self._everybody(row.notice, done, sent)
        except (TimeoutError, aiosmtplib.SMTPTimeoutError) as error:
            raise DeliveryError("no_reply", f"{self._receiver.reply_timeout_s:g} s") from error
        except aiosmtplib.SMTPAuthenticationError as error:
            raise DeliveryError("not_let_in", f"{error.code} {error.message}", recoverable=False) from error
        except aiosmtplib.SMTPConnectError as error:
            raise DeliveryError("connect_failed", str(error)) from error
        except ssl.SSLError as error:
            raise DeliveryError("tls", str(error)) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise DeliveryError("connection_lost", str(error)) from error
        if failures:
            temporary = any(code < PERMANENT for code, _ in failures.values())
            detail = "; ".join(f"{address}: {code} {text}" for address, (code, text) in failures.items())
            raise DeliveryError("deferred" if temporary else "rejected", detail, recoverable=temporary)
        self._done.pop(told, None)
        return said

    async def close(self) -> None:
        """Nothing is kept open between messages: a mail server does not like to wait."""

    async def _everybody(
        self, notice: Notice, done: set[str], sent: Callable[[float], None]
    ) -> tuple[dict[str, tuple[int, str]], str]:
        """Who did not get it and why, and the server's last word to those who did."""
        receiver, failures, said = self._receiver, dict[str, tuple[int, str]](), "sent before"
        left = [address for address in receiver.to if address not in done]
        if not left:
            return failures, said
        async with self._server() as server:
            for address in left:
                made = message(notice, receiver, address)
                try:
                    await server.sendmail(receiver.sender, [address], made.as_bytes(policy=policy.SMTP))
                except aiosmtplib.SMTPRecipientsRefused as error:
                    failures[address] = error.recipients[0].code, error.recipients[0].message
                except aiosmtplib.SMTPResponseException as error:
                    failures[address] = error.code, error.message
                else:
                    sent(self._clock.wall_ms())
                    done.add(address)
                    said = f"accepted for {len(done)} of {len(receiver.to)}"
        return failures, said

    def _server(self) -> aiosmtplib.SMTP:
        receiver = self._receiver
        context = ssl.create_default_context(cafile=receiver.ca_file or None)
        return aiosmtplib.SMTP(
            hostname=receiver.host,
            port=receiver.port,
            username=receiver.username or None,
            password=receiver.password or None,
            timeout=receiver.reply_timeout_s,
            use_tls=receiver.security == "tls",
            start_tls=receiver.security == "starttls",
            tls_context=None if receiver.security == "none" else context,
        )


def message(notice: Notice, receiver: MailReceiver, to: str) -> EmailMessage:
    """The message to one address."""
    made = EmailMessage()
    first = message_id(notice.incident, "alarm", 0.0, receiver.sender, to)
    made["From"] = _address(receiver.sender)
    made["To"] = _address(to)
    made["Subject"] = subject(notice, receiver)
    made["Date"] = format_datetime(texts.moment(notice.made_ms or notice.decided_ms or notice.occurred_ms))
    made["Message-ID"] = message_id(notice.incident, notice.event, notice.made_ms, receiver.sender, to)
    if notice.event != "alarm":
        made["In-Reply-To"] = first
        made["References"] = first
    made["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers, please
    made["X-Priority"] = "1"
    made.set_content("\n\n".join(_plain(notice, language) for language in receiver.languages) + "\n")
    pages = "<hr>".join(_page(notice, language) for language in receiver.languages)
    made.add_alternative(f'<!doctype html><html><meta charset="utf-8"><body>{pages}</body></html>', subtype="html")
    return made


def subject(notice: Notice, receiver: MailReceiver) -> str:
    """Headline and place, one line."""
    headline = texts.headline(notice, receiver.languages[0])
    return clean(f"{headline} - {notice.premises_name or notice.premises} [{notice.incident}]")[:MAX_SUBJECT]


def message_id(incident: str, event: str, made_ms: float, sender: str, to: str) -> str:
    """The same for each repeat; no two events or addresses share one."""
    whose = hashlib.sha256(f"{incident}|{event}|{made_ms:.0f}|{to}".encode()).hexdigest()[:16]
    name = "".join(one if one.isascii() and (one.isalnum() or one in "-.") else "-" for one in incident) or "incident"
    return f"<{name}.{event}.{whose}@{sender.rpartition('@')[2]}>"


def _address(text: str) -> Address:
    local, _, domain = text.rpartition("@")
    return Address(username=local, domain=domain)


def _plain(notice: Notice, language: texts.Language) -> str:
    rows = "\n".join(f"{label}: {text}" for label, text in texts.lines(notice, language))
    return f"{texts.headline(notice, language)}\n\n{rows}"


def _page(notice: Notice, language: texts.Language) -> str:
    rows = "".join(
        f"<tr><th align=left valign=top>{html.escape(label)}</th><td>{html.escape(text)}</td></tr>"
        for label, text in texts.lines(notice, language)
    )
    return f'<h2 lang="{language}">{html.escape(texts.headline(notice, language))}</h2><table lang="{language}">{rows}</table>'
