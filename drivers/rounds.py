"""Rounds: which kept rows to send again, and when.

A round goes over all kept rows, oldest first; the first begins at connection, the next `resend_s` after the one before began.
At most `window` rows of it are out without a receipt, so that a core which is away finds a bounded pile of repeats; a row that
is never receipted leaves the window after `resend_s` and does not hold up those behind it.

Pure: no clock, no I/O. Times are seconds on the outbox's clock (`Outbox.now_s`).
"""

from __future__ import annotations

from collections.abc import Sequence

from drivers.outbox.rows import BEGIN, Key, Row

RESEND_S = 30.0  # wire contract, Payloads: unreceipted readings are sent again after reconnect and after 30 s
REFUSED_RETRY_S = 2.0  # the broker had no subscriber, or no room: soon again, but not in a tight loop
WINDOW = 500  # as many as one array of the wire contract


class Rounds:
    """The rounds of one connection, which began at `now_s` with boot id `boot`."""

    def __init__(self, boot: str, now_s: float, *, resend_s: float = RESEND_S, window: int = WINDOW) -> None:
        self.cursor = BEGIN  # id of the last row that this round is done with
        self._boot = boot
        self._connected_s = now_s
        self._resend_s = resend_s
        self._window = window
        self._began_s = now_s
        self._going = True
        self._soon_s: float | None = None
        self._out: dict[Key, float] = {}  # until when each is waited for

    def room(self, now_s: float) -> int:
        """How many rows may be sent now: 0 between two rounds, or while the window is full of unreceipted ones."""
        if not self._going and now_s >= self.next_s(now_s):
            self._going, self._began_s, self._soon_s, self.cursor = True, now_s, None, BEGIN
        if len(self._out) >= self._window:
            self._out = {key: until_s for key, until_s in self._out.items() if until_s > now_s}
        return max(0, self._window - len(self._out)) if self._going else 0

    def next_s(self, now_s: float) -> float:
        """When `room` may be greater than 0 next, if nothing else happens."""
        if self._going:
            return now_s if len(self._out) < self._window else min(self._out.values())
        regular_s = self._began_s + self._resend_s
        return regular_s if self._soon_s is None else min(regular_s, self._soon_s)

    def choose(self, page: Sequence[Row], now_s: float) -> list[Row]:
        """What of the page after `cursor` is to be sent; an empty page ends the round."""
        chosen = [row for row in page if self._due(row, now_s)]
        if page:
            self.cursor = page[-1].id
        else:
            self._going = False
        return chosen

    def sent(self, row: Row, now_s: float) -> None:
        """`row` went out again."""
        self._out[row.key] = now_s + self._resend_s

    def refused(self, row: Row, now_s: float) -> None:
        """The broker did not take `row`: it is due again soon, and stays in the window until then."""
        if row.key in self._out or len(self._out) < self._window:
            self._out[row.key] = now_s + REFUSED_RETRY_S
        if self._soon_s is None:
            self._soon_s = now_s + REFUSED_RETRY_S

    def receipted(self, device: str, boot: str, up_to: int) -> None:
        """The core has these: they leave the window."""
        for key in [key for key in self._out if key[0] == device and key[1] == boot and key[2] <= up_to]:
            del self._out[key]

    def _due(self, row: Row, now_s: float) -> bool:
        until_s = self._out.get(row.key)
        if until_s is not None:
            return until_s <= now_s
        went_out_live = row.boot == self._boot and row.put_s >= self._connected_s
        return not went_out_live or now_s - row.put_s >= self._resend_s
