"""Warm: the recent past is given to the rules again after a restart, on the caller's clock of now. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from iotcore.alarms.engine import Engine
from iotcore.reading import Reading
from iotcore.registry.directory import Binding


def warm(
    engine: Engine,
    readings: Iterable[Reading],
    bindings: Mapping[str, Binding],
    is_old: Callable[[Reading], bool],
    now: tuple[float, float],
) -> None:
    """Evaluate readings that were stored, oldest first, as of when they came; what they decided then is not decided again.

    `now` is the caller's monotonic clock (s) and the wall clock (ms UTC). Timers that were due before the newest reading have
    decided then, too; what was due since is left for the first `tick`. A wall clock that was set back while nobody ran makes
    readings of the future those of now.
    """
    now_s, wall_ms = now
    came_s = float("-inf")
    for reading in readings:
        binding = bindings.get(reading.device)
        if binding is None:
            continue
        came_s = max(came_s, min(now_s, now_s - (wall_ms - reading.received_ms) / 1000.0))
        engine.tick(came_s)
        engine.evaluate(reading, binding, old=is_old(reading), now_s=came_s)
