"""Rule documents for tests, over the shipped rules."""

from __future__ import annotations

from typing import Any

from iotcore.alarms import rules
from iotcore.clock import ManualClock
from iotcore.process.ruled import Ruled
from iotcore.registry.database import Database
from iotcore.registry.rule_documents import RuleStore

BASE = rules.load(rules.default_path())


def level(above: Any = 0.3, **others: Any) -> dict[str, Any]:
    """The shipped smoke-level with another threshold."""
    when = {"kind": "threshold", "point": "smoke", "unit": "dB/m", "above": above, "clear": 0.15, "mean_s": 6, "readings": 2}
    return {"id": "smoke-level", "hazard": "smoke", "severity": "alarm", "source": "this test", "when": when, **others}


def advisory(name: str, above: float = 0.1, **others: Any) -> dict[str, Any]:
    """A rule that decides no fire."""
    when = {"kind": "threshold", "point": "smoke", "unit": "dB/m", "above": above}
    return {"id": name, "hazard": "smoke", "severity": "advisory", "source": "this test", "when": when, **others}


def ruled(database: Database, clock: ManualClock | None = None) -> Ruled:
    """The rules as a process follows them."""
    return Ruled(RuleStore(database), BASE, clock or ManualClock())
