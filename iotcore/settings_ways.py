"""What receivers of alarms have in common in the settings: how they are used, and where an outgoing HTTP request may go."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Annotated

import msgspec
from msgspec import Meta

HTTP, HTTPS = "http://", "https://"


class Used(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a receiver is used."""

    alternate: str = ""
    hedge_s: Annotated[float, Meta(ge=0, le=60)] = 3.0
    parallel: Annotated[int, Meta(ge=1, le=16)] = 4

    def __repr__(self) -> str:
        """Its kind and name alone: settings end up in logs and tracebacks, and receivers have secrets."""
        return f"{type(self).__name__}({getattr(self, 'name', '')}, …)"


class Asked(Used, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A receiver that is asked over HTTP, and where its requests may go."""

    allow_http: bool = False
    allow_private: bool = False
    allow_networks: list[str] = []


def wrong_url(url: str, asked: Asked) -> Iterator[tuple[str, str]]:
    """Key and reason of each problem of a receiver's address."""
    if not url.startswith((HTTPS, HTTP)):
        yield "url", "must begin with https:// or http://"
    elif url.startswith(HTTP) and not asked.allow_http:
        yield "url", "must begin with https://; where plain HTTP is wanted, say allow_http = true"
    for i, text in enumerate(asked.allow_networks):
        try:
            ip_network(text)
        except ValueError as error:
            yield f"allow_networks[{i}]", f"is no network such as 10.20.0.0/16: {error}"
