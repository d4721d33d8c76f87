"""The audit chain: each entry's hash covers the hash before it, so that no past entry can be edited or removed unseen.

hash(n) = sha256(hash(n-1) + canonical JSON of entry n), in hex. Pure. Who can rewrite the whole chain can still forge it:
compare it with heads that were written down elsewhere (`Walk`, docs/audit.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

GENESIS = "0" * 64  # the hash before the first entry
RESTORED = "registry.restored"  # the entry that follows a restore: it says after which one, and leaves a gap for what was lost
MAX_SUSPECTS = 500  # entries that do not fit which are kept to say what became of them; further ones are counted


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


class Head(NamedTuple):
    """The end of a chain at some moment: the number and hash of its last entry."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Break:
    """Where the chain does not hold, and why: `edited`, `missing`, `reordered`, `truncated`, or `rewritten` since a head.

    `restored`: entries are missing because a backup was restored, as the entry that follows says itself; nobody has tampered.
    """

    seq: int
    reason: str
    detail: str = ""

    @property
    def tampered(self) -> bool:
        """Whether somebody has changed the chain."""
        return self.reason != "restored"

    def __str__(self) -> str:
        return f"{self.reason} at entry {self.seq}: {self.detail}" if self.detail else f"{self.reason} at entry {self.seq}"


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: the same value always gives the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def link(previous: str, deed: Deed) -> Entry:
    """The entry that follows the one whose hash is `previous`."""
    return Entry(deed, hashlib.sha256(f"{previous}{canonical(list(deed))}".encode()).hexdigest())


def verify(entries: Iterable[Entry], head_seq: int, head_hash: str) -> list[Break]:
    """Every place where the chain is broken; none means that it is whole up to its head."""
    walk = Walk()
    for entry in entries:
        walk.take(entry)
    return walk.end(Head(head_seq, head_hash))


class Walk:
    """Follows a chain entry by entry, in bounded memory, past the heads that were written down of it elsewhere."""

    def __init__(self, heads: Iterable[Head] = ()) -> None:
        self.seq, self._hash = 0, GENESIS
        self._ahead = sorted(set(heads), reverse=True)  # the next one is the last
        self._passed = Head(0, GENESIS)  # the last head that held
        self._found: list[Break] = []
        self._suspects: list[_Suspect] = []
        self._uncounted = 0

    def take(self, entry: Entry) -> None:
        """The next entry by its number."""
        seq = entry.deed.seq
        gap = seq != self.seq + 1
        if gap and not _declared(entry.deed, self.seq):
            last = f"up to entry {seq - 1}" if seq - 1 > self.seq + 1 else ""
            self._found.append(Break(self.seq + 1, "missing", last))
        elif link(self._hash, entry.deed).hash != entry.hash:
            if len(self._suspects) < MAX_SUSPECTS:
                self._suspects.append(_Suspect(self._hash, entry))
            else:
                self._uncounted += 1
        elif gap:
            self._found.append(Break(seq, "restored", f"what was done after entry {self.seq} was lost; a backup was restored"))
        self.seq, self._hash = seq, entry.hash
        while self._ahead and self._ahead[-1].seq <= seq:
            self._pass(self._ahead.pop())

    def end(self, head: Head) -> list[Break]:
        """Everything that was found, by number; `head` is what the database itself says of its chain."""
        self._found += _judged(self._suspects)
        if self._uncounted:
            last = self._suspects[-1].entry.deed.seq
            self._found.append(Break(last, "edited", f"and {self._uncounted} further entries after it do not fit"))
        if (self.seq, self._hash) != head:
            if self.seq < head.seq:
                self._found.append(Break(self.seq + 1, "truncated", f"the head says {head.seq}"))
            else:
                self._found.append(Break(self.seq, "edited", "the head in the database says otherwise"))
        if self._ahead and self._ahead[0].seq > head.seq:
            self._found.append(Break(self.seq + 1, "truncated", f"a head was exported at entry {self._ahead[0].seq}"))
        return sorted(self._found, key=lambda found: found.seq)

    def _pass(self, head: Head) -> None:
        """Compare with a head; only the first that does not hold is said, the later ones follow from it."""
        if head.seq == self.seq and head.hash != self._hash and all(found.reason != "rewritten" for found in self._found):
            since = self._passed.seq + 1
            self._found.append(Break(head.seq, "rewritten", f"the exported head is another; changed since entry {since}"))
        elif head.seq == self.seq:
            self._passed = head


def _declared(deed: Deed, after: int) -> bool:
    """Whether this entry says itself that it follows the entry `after`, with a gap between them."""
    try:
        return deed.action == RESTORED and json.loads(deed.detail)["after"] == after < deed.seq
    except (ValueError, KeyError, TypeError):  # not as we write them
        return False


class _Suspect(NamedTuple):
    """An entry that does not follow from the hash that stands before it."""

    previous: str
    entry: Entry


def _judged(suspects: list[_Suspect]) -> list[Break]:
    """Which of them were edited, which stand in another's place, and which only follow one of those.

    Follows the chain as it was: where the entry that belongs to a number stands at another one, its own hash leads on.
    """
    found: list[Break] = []
    seq, hash_ = 0, GENESIS
    for suspect in suspects:
        deed = suspect.entry.deed
        before = hash_ if seq == deed.seq - 1 else suspect.previous
        seq, hash_ = deed.seq, suspect.entry.hash
        if link(before, deed).hash == suspect.entry.hash:
            continue
        moved = next((one for one in suspects if _belongs(one.entry, before, seq)), None)
        if moved is None:
            found.append(Break(seq, "edited", "or the hash of the one before it"))
        else:
            hash_ = moved.entry.hash
            found.append(Break(seq, "reordered", f"what belongs here stands at entry {moved.entry.deed.seq}"))
    return found


def _belongs(entry: Entry, before: str, seq: int) -> bool:
    return link(before, entry.deed._replace(seq=seq)).hash == entry.hash
