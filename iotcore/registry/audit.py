"""The audit chain: each entry's hash covers the hash before it, so that no past entry can be edited or removed unseen.

hash(n) = sha256(hash(n-1) + canonical JSON of entry n), in hex. Pure. Who can rewrite the whole chain can still forge it:
compare the head with one that was written down elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

GENESIS = "0" * 64  # the hash before the first entry


class Deed(NamedTuple):
    """At `at_ms` UTC, `by` did `action` to `subject`; `detail` is canonical JSON. `seq` counts up from 1 without holes."""

    seq: int
    at_ms: int
    by: str
    action: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the audit."""

    deed: Deed
    hash: str


@dataclass(frozen=True, slots=True)
class Break:
    """Where the chain does not hold, and why: `edited`, `missing` or `truncated`."""

    seq: int
    reason: str


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: the same value always gives the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def link(previous: str, deed: Deed) -> Entry:
    """The entry that follows the one whose hash is `previous`."""
    return Entry(deed, hashlib.sha256(f"{previous}{canonical(list(deed))}".encode()).hexdigest())


def verify(entries: Iterable[Entry], head_seq: int, head_hash: str) -> list[Break]:
    """Every place where the chain is broken; none means that it is whole up to its head."""
    found: list[Break] = []
    previous, seq = GENESIS, 0
    for entry in entries:
        if entry.deed.seq != seq + 1:
            found.append(Break(seq + 1, "missing"))
        elif link(previous, entry.deed).hash != entry.hash:
            found.append(Break(entry.deed.seq, "edited"))
        previous, seq = entry.hash, entry.deed.seq
    if (seq, previous) != (head_seq, head_hash):
        found.append(Break(seq + 1, "truncated") if seq < head_seq else Break(seq, "edited"))
    return found
