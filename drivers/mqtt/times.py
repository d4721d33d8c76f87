"""When a reading was: the sender's clock if it can be believed, else the time we received it (wire contract, "Time")."""

from __future__ import annotations

PAST_LIMIT_MS = 7 * 86_400_000  # wire contract, "Time"
FUTURE_LIMIT_MS = 5 * 60_000  # wire contract, "Time"
LARGEST_CLAIM_MS = 2**53  # a claimed time is kept as evidence; beyond this it is noise that a store cannot hold


def when(ts: int | None, age_ms: int, received_ms: float, now_ms: float) -> tuple[float, int | None, str]:
    """`observed_ms`, `claimed_ms` and `clock_fault` of a reading.

    `ts` is the source time that the sender claims (ms UTC, or None), `age_ms` how long the reading was held back by a monotonic
    clock, `now_ms` our wall time, against which the claim is judged.
    """
    if ts is None:
        return received_ms - age_ms, None, ""
    if ts > now_ms + FUTURE_LIMIT_MS:
        return received_ms - age_ms, min(ts, LARGEST_CLAIM_MS), "clock_future"
    if ts < now_ms - age_ms - PAST_LIMIT_MS:
        return received_ms - age_ms, max(ts, -LARGEST_CLAIM_MS), "clock_past"
    return float(ts), None, ""
