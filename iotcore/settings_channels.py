"""Receivers of alarms in the settings that are not alarm centres: CAP, mail, text messages, calls, MQTT. One Struct a kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from iotcore.errors import Problem
from iotcore.settings_ways import Asked, wrong_url

ReplyTimeout = Annotated[float, Meta(gt=0, le=60)]
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


ChannelReceiver = CapReceiver


def wrong(receiver: ChannelReceiver) -> Iterator[tuple[str, str]]:
    """Key and reason of each problem of one receiver."""
    yield from wrong_url(receiver.url, receiver)
    if receiver.scope == "Private" and not receiver.addresses:
        yield "addresses", 'missing; a message of scope "Private" names whom it is for'
    if receiver.scope == "Restricted" and not receiver.restriction.strip():
        yield "restriction", 'missing; a message of scope "Restricted" says for whom it is'
    if bool(receiver.cert_file) != bool(receiver.key_file):
        yield "key_file" if receiver.cert_file else "cert_file", "missing; certificate and key come together"


def mixed(receivers: Sequence[object], file: str) -> Iterator[Problem]:
    """Exercises or tests that would reach whoever takes real alarms."""
    known = [(i, one) for i, one in enumerate(receivers) if isinstance(one, CapReceiver)]
    actual = {one.url for _, one in known if one.status == "Actual"}
    for i, one in known:
        if one.status != "Actual" and one.url in actual:
            yield Problem(file, f"receivers[{i}].status", f"{one.status} goes to the same url as an Actual receiver: {one.url}")
