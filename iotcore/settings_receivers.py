"""The receivers of alarms in the settings: one Struct for each kind of `[[receivers]]`, and what no type can check of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from iotcore import settings_channels
from iotcore.errors import Problem
from iotcore.settings_channels import ChannelReceiver
from iotcore.settings_ways import Asked, Used, wrong_url

SECRET = "secret:"  # noqa: S105 - what stands before the name of a sealed secret, in place of the secret itself
KEY_BYTES = (0, 16, 24, 32)  # none, AES-128, -192, -256
Port = Annotated[int, Meta(ge=1, le=65535)]


Tells = Literal["fire", "trouble", "supervisory", "disablement", "walk"]


class Dc09Receiver(Used, frozen=True, forbid_unknown_fields=True, tag="sia_dc09", tag_field="kind"):
    """An alarm receiving centre that speaks SIA DC-09. `key`: 16, 24 or 32 characters, or "" for plain frames."""

    name: str
    host: str
    port: Port
    key: str = ""
    receiver: Annotated[str, Meta(pattern="^[0-9A-Fa-f]{1,6}$")] = "1"
    line: Annotated[str, Meta(pattern="^[0-9A-Fa-f]{1,6}$")] = "0"
    reply_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 5.0
    transport: Literal["tcp", "udp"] = "tcp"
    format: Literal["SIA-DCS", "ADM-CID"] = "SIA-DCS"
    extended: Literal["auto", "all", "text", "none"] = "auto"
    account: Annotated[str, Meta(pattern="^[0-9A-Fa-f]{3,16}$")] = "0000"
    supervise_s: Annotated[float, Meta(ge=0, le=90)] = 30.0
    fault_s: Annotated[float, Meta(gt=0, le=90)] = 75.0
    tells: list[Tells] = msgspec.field(default_factory=lambda: list[Tells](("fire", "disablement", "walk")))


class WebhookReceiver(Asked, frozen=True, forbid_unknown_fields=True, tag="cad_webhook", tag_field="kind"):
    """A dispatch system that takes signed JSON. `secret` signs the body (HMAC-SHA-256)."""

    name: str
    url: str
    secret: str
    reply_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 5.0


Receiver = Dc09Receiver | WebhookReceiver | ChannelReceiver
KINDS: tuple[type[msgspec.Struct], ...] = get_args(Receiver)


def alternates(receivers: Iterable[Receiver]) -> dict[str, str]:
    """Name of each receiver that has an alternate path → name of that."""
    return {receiver.name: receiver.alternate for receiver in receivers if receiver.alternate}


def primaries(receivers: Sequence[Receiver]) -> list[Receiver]:
    """The receivers that are told of everything; an alternate is told when its primary does not answer."""
    standing_by = set(alternates(receivers).values())
    return [receiver for receiver in receivers if receiver.name not in standing_by]


def meets_at(receiver: Receiver) -> tuple[str, int, bool]:
    """Host, port, and whether a connection begins with TLS by public authorities."""
    if isinstance(receiver, Dc09Receiver):
        return receiver.host, receiver.port, False
    if not isinstance(receiver, WebhookReceiver):
        return settings_channels.meets_at(receiver)
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
    ways = alternates(receivers)
    for i, receiver in enumerate(receivers):
        if receiver.alternate and (receiver.alternate not in names or receiver.alternate == receiver.name):
            yield Problem(file, f"receivers[{i}].alternate", f"there is no other receiver named {receiver.alternate!r}")
        elif receiver.alternate in ways:
            yield Problem(
                file, f"receivers[{i}].alternate", f"{receiver.alternate!r} has an alternate itself; a path has one at most"
            )


def _wrong(receiver: Receiver) -> Iterator[tuple[str, str]]:
    """Key and reason of each problem of one receiver."""
    match receiver:
        case Dc09Receiver():
            if not receiver.key.startswith(SECRET) and len(receiver.key.encode()) not in KEY_BYTES:
                yield "key", "must have 16, 24 or 32 characters (AES-128, -192, -256)"
            if receiver.supervise_s > 0 and receiver.fault_s < receiver.supervise_s + receiver.reply_timeout_s:
                yield "fault_s", "must leave room for one link test and its reply (supervise_s + reply_timeout_s)"
            if "fire" not in receiver.tells:
                yield "tells", 'must hold "fire": that is what a receiver is for'
        case WebhookReceiver():
            yield from wrong_url(receiver.url, receiver)
        case _:
            yield from settings_channels.wrong(receiver)
