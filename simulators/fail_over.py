"""When a fire device says by HTTPS what MQTT does not answer: after 3 s, and at once while MQTT is known not to work.

    report ─► MQTT ─► receipt ─────────────────────────────► forgotten; HTTPS is left again
                 └─ none for 3 s, or no link for 3 s ─► HTTPS, the same boot and number ─► receipt ─► forgotten

Both ways go on beside each other: what comes twice has one identity and is one reading. Pure; the device does the talking.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

from iotcore.wire.arrival import Endpoint
from iotcore.wire.messages import ReadingMessage

FAIL_OVER_S = 3.0  # docs/alternate-path.md
AT_ONCE = 100  # reports in one post; the listener takes 500
NO_ANSWER_PAUSE_S = 1.0


@dataclass(slots=True)
class Held:
    """A report in the device's memory, by its own monotonic clock."""

    message: ReadingMessage
    kind: str
    made_s: float
    due_s: float  # by MQTT
    tries: int = 0
    post_s: float = 0.0  # not by HTTPS before


@dataclass(slots=True)
class FailOver:
    """Of one device: where the listener is, since when there is no link, and whether MQTT is given up for now."""

    at: Endpoint
    lost_s: float
    after_s: float = FAIL_OVER_S
    active: bool = False

    def due_s(self, held: Held, *, connected: bool) -> float:
        """When this report goes by HTTPS, if nothing else takes it before."""
        due_s = held.made_s + self.after_s
        if self.active:
            due_s = held.made_s
        elif not connected:
            due_s = max(held.made_s, min(due_s, self.lost_s + self.after_s))
        return max(due_s, held.post_s)

    def next_s(self, held: Iterable[Held], *, connected: bool) -> float:
        """When the first of them is due; infinity where there is none."""
        return min((self.due_s(one, connected=connected) for one in held), default=inf)

    def due(self, held: Mapping[int, Held], now_s: float, *, connected: bool) -> list[tuple[int, Held]]:
        """Those that are due now and may share a post: of one kind, events before readings, oldest first."""
        due = [(number, one) for number, one in held.items() if self.due_s(one, connected=connected) <= now_s]
        kind = "event" if any(one.kind == "event" for _, one in due) else "reading"
        return [(number, one) for number, one in due if one.kind == kind][:AT_ONCE]
