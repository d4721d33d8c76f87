"""Receivers of alarms in the settings that are not alarm centres: CAP, mail, text messages, calls, MQTT. One Struct a kind."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from iotcore.errors import Problem
from iotcore.settings_ways import Asked, Used, wrong_url

ReplyTimeout = Annotated[float, Meta(gt=0, le=60)]
PhoneNumber = Annotated[str, Meta(pattern=r"^\+[1-9][0-9]{6,14}$")]  # E.164
MailAddress = Annotated[str, Meta(pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]+@[A-Za-z0-9.-]+$")]  # ASCII: any server takes it
FIELDS = frozenset({"number", "name", "text", "incident", "id", "event", "language", "secret"})  # of a gateway's templates
TOPIC_FIELDS = frozenset({"incident", "event", "premises", "account"})
SEALED = "secret:"  # what stands before the name of a sealed secret
CALLBACK_SECRET_LENGTH = 16
CapToken = Annotated[str, Meta(pattern=r"^[^\s,<&]+$")]  # CAP 1.2: no spaces, commas or restricted characters


class CapReceiver(Asked, frozen=True, forbid_unknown_fields=True, tag="cap", tag_field="kind"):
    """A warning system that takes CAP 1.2 messages by HTTP POST."""

    name: str
    url: str
    sender: CapToken
    status: Literal["Actual", "Exercise", "Test"]
    sender_name: str = ""
    scope: Literal["Public", "Restricted", "Private"] = "Restricted"
    restriction: str = "For the fire service"
    addresses: list[str] = msgspec.field(default_factory=list[str])
    area: Literal["circle", "polygon"] = "circle"
    radius_m: Annotated[float, Meta(ge=1, le=100_000)] = 100.0
    sign: bool = True
    cert_file: str = ""
    key_file: str = ""
    reply_timeout_s: ReplyTimeout = 10.0


class MailReceiver(Used, frozen=True, forbid_unknown_fields=True, tag="mail", tag_field="kind"):
    """People who are told by e-mail, over SMTP."""

    name: str
    host: str
    sender: MailAddress
    to: Annotated[list[MailAddress], Meta(min_length=1, max_length=50)]
    port: Annotated[int, Meta(ge=1, le=65_535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str = ""
    password: str = ""
    ca_file: str = ""
    languages: Annotated[list[Literal["vi", "en"]], Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["vi", "en"])
    reply_timeout_s: ReplyTimeout = 20.0

    def __repr__(self) -> str:
        """Without its password: settings end up in logs and tracebacks."""
        return f"MailReceiver(name={self.name!r}, host={self.host!r}, …)"


class Telephony(Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a gateway for text messages and one for calls have in common."""

    name: str
    url: str
    body: dict[str, Any]
    method: Literal["POST", "PUT", "GET"] = "POST"
    format: Literal["json", "form"] = "json"
    headers: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    secret: str = ""
    statuses: list[Annotated[int, Meta(ge=200, le=299)]] = msgspec.field(default_factory=lambda: [200, 201, 202, 204])
    answer_path: str = ""
    answer_matches: str = ""
    numbers: list[PhoneNumber] = msgspec.field(default_factory=list[PhoneNumber])
    language: Literal["vi", "en"] = "vi"
    reply_timeout_s: ReplyTimeout = 10.0

    def __repr__(self) -> str:
        """Without its secrets."""
        return f"{type(self).__name__}(name={self.name!r}, url={self.url!r}, …)"


class SmsReceiver(Telephony, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="sms", tag_field="kind"):
    """People who are told by text message, through the HTTP gateway of a telephone company."""

    marks: bool = False
    segments: Annotated[int, Meta(ge=1, le=10)] = 2


class VoiceReceiver(Telephony, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="voice", tag_field="kind"):
    """People who are called, one after the other until one confirms, through the HTTP gateway of a telephone company."""

    callback_secret: str
    answer_s: Annotated[float, Meta(ge=1, le=300)] = 45.0
    key_field: str = "key"


class MqttReceiver(Used, frozen=True, forbid_unknown_fields=True, tag="mqtt", tag_field="kind"):
    """A system that takes fires from a broker of its own."""

    name: str
    host: str
    topic: Annotated[str, Meta(min_length=1, max_length=1_000)]
    port: Annotated[int, Meta(ge=1, le=65_535)] = 8883
    reply_topic: str = ""
    tls: bool = True
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    username: str = ""
    password: str = ""
    client_id: str = ""
    version: Literal["5", "3.1.1"] = "5"
    reply_timeout_s: ReplyTimeout = 5.0

    def __repr__(self) -> str:
        """Without its password."""
        return f"MqttReceiver(name={self.name!r}, host={self.host!r}, …)"


ChannelReceiver = CapReceiver | MailReceiver | SmsReceiver | VoiceReceiver | MqttReceiver
KINDS: tuple[type[msgspec.Struct], ...] = get_args(ChannelReceiver)


def meets_at(receiver: ChannelReceiver) -> tuple[str, int, bool]:
    """Host, port, and whether a connection begins with TLS by public authorities."""
    if isinstance(receiver, MailReceiver):
        return receiver.host, receiver.port, receiver.security == "tls" and not receiver.ca_file
    if isinstance(receiver, MqttReceiver):
        return receiver.host, receiver.port, receiver.tls and not (receiver.ca_file or receiver.cert_file)
    url = urlsplit(receiver.url)
    tls = url.scheme == "https"
    return url.hostname or "", url.port or (443 if tls else 80), tls


def wrong(receiver: ChannelReceiver) -> Iterator[tuple[str, str]]:
    """Key and reason of each problem of one receiver."""
    match receiver:
        case CapReceiver():
            yield from _wrong_cap(receiver)
        case MailReceiver():
            if bool(receiver.username) != bool(receiver.password):
                yield "password" if receiver.username else "username", "missing; user and password come together"
            if receiver.security == "none" and receiver.password:
                yield "security", "must not be none: the password would be read by whoever listens"
        case SmsReceiver() | VoiceReceiver():
            yield from _wrong_gateway(receiver)
        case MqttReceiver():
            yield from _wrong_mqtt(receiver)


def _wrong_cap(receiver: CapReceiver) -> Iterator[tuple[str, str]]:
    yield from wrong_url(receiver.url, receiver)
    if receiver.scope == "Private" and not receiver.addresses:
        yield "addresses", 'missing; a message of scope "Private" names whom it is for'
    if receiver.scope == "Restricted" and not receiver.restriction.strip():
        yield "restriction", 'missing; a message of scope "Restricted" says for whom it is'
    if bool(receiver.cert_file) != bool(receiver.key_file):
        yield "key_file" if receiver.cert_file else "cert_file", "missing; certificate and key come together"


def _wrong_gateway(receiver: SmsReceiver | VoiceReceiver) -> Iterator[tuple[str, str]]:
    yield from wrong_url(receiver.url, receiver)
    secret = receiver.callback_secret if isinstance(receiver, VoiceReceiver) else SEALED
    if not secret.startswith(SEALED) and len(secret) < CALLBACK_SECRET_LENGTH:
        yield "callback_secret", f"must have {CALLBACK_SECRET_LENGTH} characters: who guesses it answers for the owner"
    fields = FIELDS | ({"callback_url"} if isinstance(receiver, VoiceReceiver) else set())
    used = set(placeholders([receiver.url, receiver.body, receiver.headers]))
    for name in sorted(used - fields):
        yield "body", f"{{{name}}} is no field; there are: {', '.join(sorted(fields))}"
    for name in ("number", "text", *(("callback_url",) if isinstance(receiver, VoiceReceiver) else ())):
        if name not in used:
            yield "body", f"{{{name}}} is missing: without it nobody could be told"
    if receiver.format == "form" and not all(isinstance(value, str) for value in receiver.body.values()):
        yield "body", "a form holds texts alone"
    if receiver.method == "GET" and receiver.format != "form":
        yield "format", 'must be "form" for GET: there is no body'
    try:
        re.compile(receiver.answer_matches)
    except re.error as error:
        yield "answer_matches", f"is no regular expression: {error}"


def _wrong_mqtt(receiver: MqttReceiver) -> Iterator[tuple[str, str]]:
    for key, text in (("topic", receiver.topic), ("reply_topic", receiver.reply_topic)):
        if "#" in text or "+" in text or "\0" in text:
            yield key, "must name one topic: no + and no #"
        for name in sorted(set(placeholders(text)) - TOPIC_FIELDS):
            yield key, f"{{{name}}} is no field; there are: {', '.join(sorted(TOPIC_FIELDS))}"
    if "{" in receiver.reply_topic:
        yield "reply_topic", "must be one topic for all incidents; the answer names its incident"
    if bool(receiver.cert_file) != bool(receiver.key_file):
        yield "key_file" if receiver.cert_file else "cert_file", "missing; certificate and key come together"
    if not receiver.tls and (receiver.password or receiver.cert_file):
        yield "tls", "must be true: password and alarms would be read by whoever listens"


def placeholders(template: Any) -> Iterator[str]:
    """The names in `{…}` of a text, and of all texts that a list or table holds."""
    if isinstance(template, str):
        yield from re.findall(r"\{(\w+)\}", template)
    elif isinstance(template, dict):
        for value in template.values():
            yield from placeholders(value)
    elif isinstance(template, list):
        for value in template:
            yield from placeholders(value)


def mixed(receivers: Sequence[object], file: str) -> Iterator[Problem]:
    """Exercises or tests that would reach whoever takes real alarms."""
    known = [(i, one) for i, one in enumerate(receivers) if isinstance(one, CapReceiver)]
    actual = {one.url for _, one in known if one.status == "Actual"}
    for i, one in known:
        if one.status != "Actual" and one.url in actual:
            yield Problem(file, f"receivers[{i}].status", f"{one.status} goes to the same url as an Actual receiver: {one.url}")
