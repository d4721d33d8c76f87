"""Words: what people read, in Vietnamese and English, from `locales/*.json`; and times as Vietnam tells them.

A catalogue is flat: `"section.name": "text with {placeholders}"`. Words for values that come from the field (hazards, reasons,
why a value is bad) live in families; a value without a word is shown as it came.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Literal
from zoneinfo import ZoneInfo

from iotcore.reading import Scalar
from iotcore.web.checklist import Step

Language = Literal["vi", "en"]
LANGUAGES: tuple[Language, ...] = ("vi", "en")
ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
MS_PER_S = 1000.0


@dataclass(frozen=True, slots=True)
class Words:
    """One language's catalogue."""

    language: Language
    catalogue: Mapping[str, str]

    def __call__(self, key: str, **values: Any) -> str:
        """The text of `key`; KeyError when there is none, which a test prevents."""
        return self.catalogue[key].format(**values)

    def of(self, family: str, value: str) -> str:
        """The word for a value of the field, or the value itself."""
        return self.catalogue.get(f"{family}.{value}", value)

    def fault(self, reason: str, values: Sequence[Mapping[str, Any]] = ()) -> str:
        """A fault in words: `bad:<point>:<why>`, `refused:<reason>`, `flapping:<rule>`, or a name; `values` know titles."""
        kind, _, rest = reason.partition(":")
        if kind == "bad":
            point, _, why = rest.partition(":")
            titles: Mapping[str, str] = next((value["title"] for value in values if value["point"] == point), {})
            return self("fault.bad", point=self.title(titles, point), why=self.of("why", why))
        if kind == "refused":
            return self("fault.refused", reason=self.refusal(rest))
        if kind == "flapping":
            return self("fault.flapping", rule=rest)
        return self.of("fault", reason)

    def refusal(self, reason: str) -> str:
        """Why a message was refused; `not_accepted:<state>` names the device's state."""
        name, _, state = reason.partition(":")
        return f"{self.of('refusal', name)} ({self.of('state', state)})" if state else self.of("refusal", name)

    def title(self, titles: Mapping[str, str], fallback: str) -> str:
        """What a spec calls a point in this language."""
        return titles.get(self.language) or titles.get("en") or fallback

    def floor(self, floor: str) -> str:
        """A floor as it was registered; a bare number gets its word."""
        return self("incident.floor", floor=floor) if floor.isdecimal() else floor

    def value(self, value: Scalar | None) -> str:
        """A value as people write it: a decimal comma in Vietnamese, words for yes and no, a dash for none."""
        if value is None:
            return "–"
        if isinstance(value, bool):
            return self("value.yes") if value else self("value.no")
        if isinstance(value, str):
            return value
        text = f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"  # noqa: PLR2004 - four digits say enough on a page
        return text.replace(".", ",") if self.language == "vi" else text

    def step(self, step: Step) -> str:
        """What was found of a step of the checklist, or what to do about it; "" when there is nothing to say."""
        text = self.catalogue.get(f"todo.{step.reason}" if step.reason else f"found.{step.name}", "")
        values = {
            name: self.value(value + 0.0) if isinstance(value, int | float) else value for name, value in step.values.items()
        }
        return text.format(**values) if values or "{" not in text else ""

    def ms(self, span_ms: float) -> str:
        """A span in ms: whole above 10, one decimal below."""
        text = f"{span_ms:.0f}" if abs(span_ms) >= 10 else f"{span_ms:.1f}"  # noqa: PLR2004
        return text.replace(".", ",") if self.language == "vi" else text

    def span(self, span_ms: float) -> str:
        """A span in the largest unit that leaves a whole number: 100 s, 150 s, 60 h."""
        seconds = round(span_ms / MS_PER_S)
        return f"{seconds // 3600} h" if seconds and seconds % 3600 == 0 else f"{seconds} s"

    @staticmethod
    def clock(at_ms: float) -> str:
        """Time of day in Vietnam with milliseconds."""
        at = _local(at_ms)
        return f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"

    @staticmethod
    def moment(at_ms: float) -> str:
        """Date and time of day in Vietnam."""
        return f"{_local(at_ms):%d/%m/%Y %H:%M:%S}"


def load(language: Language) -> Words:
    """The catalogue that ships with iotcore."""
    file = resources.files("iotcore.web") / "locales" / f"{language}.json"
    return Words(language, json.loads(file.read_text(encoding="utf-8")))


def _local(at_ms: float) -> datetime:
    return datetime.fromtimestamp(at_ms / MS_PER_S, UTC).astimezone(ZONE)
