"""What stands on a paper: Vietnamese with English beside it, times of Vietnam, devices and points in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from iotcore.paper.record import Line, Section
from iotcore.paper.table import Table
from iotcore.reading import Scalar
from iotcore.registry.directory import Directory
from iotcore.web.words import Words

DASH = "–"


@dataclass(frozen=True, slots=True)
class Both:
    """Two catalogues as one."""

    vi: Words
    en: Words

    def __call__(self, key: str, **values: Any) -> str:
        """A text in both languages, once where they agree."""
        return self.pair(self.vi(key, **values), self.en(key, **values))

    def of(self, family: str, value: str) -> str:
        """The word for a value of the field in both languages, or the value itself."""
        return self.pair(self.vi.of(family, value), self.en.of(family, value))

    def fault(self, reason: str) -> str:
        """A fault in both languages."""
        return self.pair(self.vi.fault(reason), self.en.fault(reason))

    def value(self, value: Scalar | None, unit: str) -> str:
        """A value with its unit."""
        told = self.pair(self.vi.value(value), self.en.value(value)) if isinstance(value, bool) else self.vi.value(value)
        return f"{told} {unit}".strip()

    def moment(self, at_ms: float | None) -> str:
        """Date and time in Vietnam with milliseconds; a dash for what has not happened."""
        return DASH if at_ms is None else f"{self.vi.moment(at_ms)}.{self.vi.clock(at_ms)[-3:]}"

    def span(self, span_ms: float | None) -> str:
        """Milliseconds; a dash for none."""
        return DASH if span_ms is None else self.vi.ms(span_ms)

    def device(self, directory: Directory, device: str) -> str:
        """A device's name and id; the id alone of one that is gone."""
        known = directory.devices.get(device)
        return f"{known.title} ({device})" if known is not None and known.title else device

    def point(self, directory: Directory, device: str, point: str) -> str:
        """A device's point in words."""
        known = directory.devices.get(device)
        if known is None or point not in known.spec.points:
            return f"{self.device(directory, device)}: {point}"
        titles = known.spec.points[point].title
        return f"{self.device(directory, device)}: {self.pair(self.vi.title(titles, point), self.en.title(titles, point))}"

    def line(self, key: str, value: str) -> Line:
        """A labelled line."""
        return Line(self.vi(key), self.en(key), value)

    def table(self, columns: Sequence[tuple[str, float]], rows: Sequence[Sequence[str]]) -> Table | None:
        """A table by its heads' keys and shares of the width; None without rows."""
        heads = [(self.vi(key), self.en(key)) for key, _ in columns]
        return Table(heads, rows, [share for _, share in columns]) if rows else None

    def section(self, key: str, **content: Any) -> Section:
        """A section by its heading's key."""
        return Section(self.vi(key), self.en(key), **content)

    @staticmethod
    def pair(vi: str, en: str) -> str:
        """Both, or one where they are the same."""
        return vi if vi == en else f"{vi} – {en}"
