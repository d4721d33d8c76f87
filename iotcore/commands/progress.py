"""How far a long command is, on standard error: one line that changes on a terminal, JSON lines for programs."""

from __future__ import annotations

import json
from typing import TextIO

from iotcore.clock import Clock

EVERY_TERMINAL_S = 0.2
EVERY_LINE_S = 1.0


class Progress:
    """Tells of phases, and within one how many rows are done; `lines` asks for JSON lines where there is no terminal."""

    def __init__(self, stream: TextIO, clock: Clock, *, lines: bool = False) -> None:
        self._stream, self._clock = stream, clock
        self._terminal = stream.isatty()
        self._on = self._terminal or lines
        self._name = ""
        self._begun_s = self._said_s = 0.0

    def phase(self, name: str, rows: int = 0) -> None:
        """Something new begins."""
        self._name, self._begun_s = name, self._clock.monotonic_s()
        self._say({"phase": name, **({"rows": rows} if rows else {})}, f"{name} {rows} rows" if rows else name)

    def told(self, done: int, total: int) -> None:
        """So many of all rows are done."""
        now_s = self._clock.monotonic_s()
        if done < total and now_s - self._said_s < (EVERY_TERMINAL_S if self._terminal else EVERY_LINE_S):
            return
        rate = done / max(now_s - self._begun_s, 1e-3)
        percent = 100.0 * done / total
        known = {"phase": self._name, "done": done, "rows": total, "percent": round(percent, 1), "rows_per_s": round(rate)}
        self._say(known, f"{self._name} {percent:3.0f} %, {done} of {total} rows, {rate:.0f} rows/s")

    def end(self) -> None:
        """Leave the terminal's line."""
        if self._terminal:
            self._stream.write("\n")

    def _say(self, known: dict[str, object], line: str) -> None:
        if not self._on:
            return
        self._said_s = self._clock.monotonic_s()
        self._stream.write(f"\r\x1b[K{line}" if self._terminal else f"{json.dumps(known)}\n")
        self._stream.flush()
