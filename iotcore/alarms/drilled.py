"""Drilled: what a drill said, as the rules judge it, beside the stream of the device in whose place it speaks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from iotcore.alarms import responders, trial
from iotcore.alarms.engine import Engine
from iotcore.journal.records import Tried
from iotcore.reading import Reading
from iotcore.registry.directory import Binding, Directory
from iotcore.wire.arrival import Refusal

log = logging.getLogger(__name__)


def _said(refusal: Refusal) -> None:
    log.critical("REFUSED DRILL on %s: %s", refusal.topic, refusal.detail)


class Drilled:
    """Of one lane; `heard` is called when drills that were heard are durable.

    `event` is told of each drill that was refused: somebody spoke for a fire device who may not.
    """

    def __init__(
        self, engine: Engine, event: Callable[[Refusal], None] = _said, heard: Callable[[], None] = lambda: None
    ) -> None:
        self.heard = heard
        self._engine = engine
        self._event = event

    def judged(self, readings: Sequence[Reading], binding: Binding, directory: Directory, now_ms: float) -> Tried:
        """What the rules say of it: nothing of the device is read, and nothing is changed."""
        last = readings[-1]
        found = trial.judged(self._engine.plan_of(binding), binding, readings)
        notice = responders.notice(found[0], last, binding, directory, now_ms) if found else None
        return Tried(last.boot, binding.device, notice, last.observed_ms, last.received_ms, now_ms)

    def refused(self, refusal: Refusal) -> None:
        """One that is none."""
        self._event(refusal)
