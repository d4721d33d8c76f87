"""Brakes on guessing passwords: a bucket of tries for each account, each address, and each browser that was here before.

A bucket holds a number of tries and fills up again by and by; only a try that fails is taken from it. There is a fixed number of
buckets, chosen by a keyed hash, so that nobody fills memory or picks whose bucket is his.

No stranger can lock somebody out for good: an account's bucket is emptied by strangers, but a browser that has signed in as this
user before has one of its own; and a one-time link (`iotcore user link`) asks no bucket.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

BUCKETS = 8_192  # of each kind
KEY_BYTES = 16
NEWS_S = 600.0

Kind = Literal["account", "address", "browser"]


@dataclass(frozen=True, slots=True)
class Brake:
    """So many tries at once, and a further one each `every_s` seconds."""

    tries: int
    every_s: float


# 10 tries and 90 more an hour: OWASP ASVS 4.0.3, 2.2.1 allows 100 failures an hour at one account.
BRAKES: dict[Kind, Brake] = {"account": Brake(10, 40.0), "address": Brake(20, 15.0), "browser": Brake(10, 40.0)}


class Throttle:
    """The buckets of one web process. `now_s` is a monotonic clock."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._key = secrets.token_bytes(KEY_BYTES)
        self._told_s: dict[tuple[Kind, int], float] = {}  # at most one entry a bucket
        self._used: dict[Kind, list[tuple[float, float]]] = {kind: [(0.0, 0.0)] * BUCKETS for kind in BRAKES}

    def take(self, kind: Kind, name: str) -> float:
        """Take a try; 0.0, or how many seconds to wait when there is none: then nothing is taken."""
        brake, i, used = self._bucket(kind, name)
        if used > brake.tries - 1:
            return (used - (brake.tries - 1)) * brake.every_s
        self._used[kind][i] = (used + 1.0, self._now_s())
        return 0.0

    def give_back(self, kind: Kind, name: str) -> None:
        """The try was no guess."""
        _, i, used = self._bucket(kind, name)
        self._used[kind][i] = (max(0.0, used - 1.0), self._now_s())

    def is_news(self, kind: Kind, name: str) -> bool:
        """Whether nobody was told within `NEWS_S` that this bucket is empty: an audit is not to be flooded."""
        _, i, _ = self._bucket(kind, name)
        now_s = self._now_s()
        if now_s - self._told_s.get((kind, i), -NEWS_S) < NEWS_S:
            return False
        self._told_s[kind, i] = now_s
        return True

    def _bucket(self, kind: Kind, name: str) -> tuple[Brake, int, float]:
        """The brake, the bucket's place, and how many tries are missing from it now."""
        brake = BRAKES[kind]
        digest = hashlib.blake2b(f"{kind} {name}".encode(), key=self._key, digest_size=8).digest()
        i = int.from_bytes(digest, "big") % BUCKETS
        used, at_s = self._used[kind][i]
        return brake, i, max(0.0, used - (self._now_s() - at_s) / brake.every_s)


def network(address: str) -> str:
    """Whose address it is: one of IPv4, the first half of one of IPv6, for a household has all the rest (RFC 6177)."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
    return str(found)
