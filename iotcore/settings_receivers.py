"""The receivers of alarms in the settings: one Struct for each kind of `[[receivers]]`, and what no type can check of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from iotcore import settings_channels
from iotcore.errors import Problem
from iotcore.settings_channels import CapReceiver

Port = Annotated[int, Meta(ge=1, le=65535)]


class Dc09Receiver(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="sia_dc09", tag_field="kind"):
    """An alarm receiving centre that speaks SIA DC-09 over TCP. `key`: 16, 24 or 32 characters, or "" for plain frames."""

    name: str
    host: str
    port: Port
    key: str = ""
    receiver: Annotated[str, Meta(pattern="^[0-9A-Fa-f]{1,6}$")] = "1"
    line: Annotated[str, Meta(pattern="^[0-9A-Fa-f]{1,6}$")] = "0"
    reply_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 5.0


class WebhookReceiver(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="cad_webhook", tag_field="kind"):
    """A dispatch system that takes signed JSON. `secret` signs the body (HMAC-SHA-256)."""

    name: str
    url: str
    secret: str
    reply_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 5.0


Receiver = Dc09Receiver | WebhookReceiver | CapReceiver
KINDS: tuple[type[msgspec.Struct], ...] = get_args(Receiver)


def meets_at(receiver: Receiver) -> tuple[str, int, bool]:
    """Host, port, and whether a connection begins with TLS by public authorities."""
    if isinstance(receiver, Dc09Receiver):
        return receiver.host, receiver.port, False
    url = urlsplit(receiver.url)
    tls = url.scheme == "https"
    return url.hostname or "", url.port or (443 if tls else 80), tls


def problems(receivers: Sequence[Receiver], file: str) -> Iterator[Problem]:
    """What is wrong with the receivers of a settings file."""
    for i, receiver in enumerate(receivers):
        for key, reason in _wrong(receiver):
            yield Problem(file, f"receivers[{i}].{key}", reason)
    yield from settings_channels.mixed(receivers, file)
    names = [receiver.name for receiver in receivers]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Problem(file, "receivers", f"two are named {name!r}")


def _wrong(receiver: Receiver) -> Iterator[tuple[str, str]]:
    """Key and reason of each problem of one receiver."""
    match receiver:
        case Dc09Receiver():
            if len(receiver.key.encode()) not in (0, 16, 24, 32):
                yield "key", "must have 16, 24 or 32 characters (AES-128, -192, -256)"
        case WebhookReceiver():
            if not receiver.url.startswith(("https://", "http://")):
                yield "url", "must begin with https:// or http://"
        case _:
            yield from settings_channels.wrong(receiver)
