"""What `iotcore telemetry query` and `latest` print. People read the city's clock and units; programs read UTC and plain numbers.

JSON: {"device", "point", "title", "unit", "from", "to", "every_s", "cut", "values": [...]}; `cut`: there are older ones that
--limit left out. Without --every (`every_s` null) a value is {"time", "value", "quality", "test"}; with it {"time", "mean",
"min", "max", "values", "completeness"}, `time` the interval's begin. CSV has the same columns. A bool is true or false, but a
number in means.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from dataclasses import replace as _replaced
from typing import Any

from iotcore.commands.moments import MS_PER_S, ZONE, local, utc
from iotcore.commands.terminal_chart import STEPS_S, Frame, Span, chart
from iotcore.errors import StartError
from iotcore.reading import Quality, Scalar
from iotcore.specs.model import Point
from iotcore.telemetry.queries import Latest
from iotcore.telemetry.query import Interval, Sample

SAMPLE_COLUMNS = ("time", "value", "quality", "test")
INTERVAL_COLUMNS = ("time", "mean", "min", "max", "values", "completeness")
LATEST_COLUMNS = ("device", "point", "value", "unit", "quality", "why", "observed", "title")
GAP_READINGS = 3.0  # as many missing one after another are a gap in the chart
CHART_STEPS = 400  # intervals of a chart that has too many values to draw
NO_TERMINAL = (100, 24)  # of what goes into a file or a pipe
CHART_LINES = (8, 24)
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store said, and what is known of the point. `newest` is asked for when the range holds nothing."""

    device: str
    name: str
    point: Point
    span_ms: tuple[float, float]
    usual_s: float  # between readings of the device
    every_ms: int | None
    samples: Sequence[Sample] = ()
    intervals: Sequence[Interval] = ()
    cut: bool = False
    newest: Sample | None = None

    def replace(self, **more: Any) -> Answer:
        """The same with more known."""
        return _replaced(self, **more)

    @property
    def columns(self) -> Sequence[str]:
        """The names of what a row has."""
        return SAMPLE_COLUMNS if self.every_ms is None else INTERVAL_COLUMNS

    def rows(self, clock: Callable[[float], str]) -> list[Row]:
        """Each value or interval as plain data, with its time by `clock`."""
        if self.every_ms is None:
            return [
                dict(zip(SAMPLE_COLUMNS, (clock(s.at_ms), worded(s.value, self.point), s.quality.value, s.test), strict=True))
                for s in self.samples
            ]
        return [
            dict(zip(INTERVAL_COLUMNS, (clock(i.start_ms), i.mean, i.minimum, i.maximum, i.values, i.completeness), strict=True))
            for i in self.intervals
        ]


def as_json(answer: Answer) -> str:
    """The document above."""
    document = {
        "device": answer.device,
        "point": answer.name,
        "title": answer.point.title,
        "unit": answer.point.unit,
        "from": utc(answer.span_ms[0]),
        "to": utc(answer.span_ms[1]),
        "every_s": answer.every_ms / MS_PER_S if answer.every_ms is not None else None,
        "cut": answer.cut,
        "values": answer.rows(utc),
    }
    return f"{json.dumps(document, ensure_ascii=False, indent=2)}\n"


def as_csv(answer: Answer) -> str:
    """A head and a line for each."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(answer.columns)
    writer.writerows([_plain(value) for value in row.values()] for row in answer.rows(utc))
    return out.getvalue()


def as_table(answer: Answer) -> str:
    """For a person; says what was left out, and where values are when the range has none."""
    rows = answer.rows(local)
    if not rows:
        return f"{heading(answer)}\n{nothing(answer)}\n"
    shown = [[_plain(value) for value in row.values()] for row in rows]
    tail = f"the newest {len(rows)}; there are more: --limit, --every or `iotcore telemetry export`\n" if answer.cut else ""
    return f"{heading(answer)}\n{aligned([[f'time ({ZONE.key})', *answer.columns[1:]], *shown])}{tail}"


def as_chart(answer: Answer) -> str:
    """A drawing as large as the terminal; bad values and tests are counted, not drawn."""
    if answer.point.kind in {"text", "enum", "flags"}:
        raise StartError(f"{answer.name} is words, not numbers", "Show them with -o table.")
    spans = [Span(i.start_ms, i.minimum, i.mean, i.maximum) for i in answer.intervals] or [
        Span(s.at_ms, s.value, s.value, s.value)
        for s in answer.samples
        if isinstance(s.value, float) and s.quality is not Quality.BAD and not s.test
    ]
    spans = [span for span in spans if answer.span_ms[0] <= span.at_ms < answer.span_ms[1]]
    if not spans:
        return f"{heading(answer)}\n{nothing(answer)}\n"
    columns, lines = shutil.get_terminal_size(NO_TERMINAL)
    tty = sys.stdout.isatty()
    frame = Frame(
        *answer.span_ms,
        gap_ms=max(GAP_READINGS * answer.usual_s * MS_PER_S, 1.5 * (answer.every_ms or 0)),
        width=columns if tty else NO_TERMINAL[0],
        height=max(CHART_LINES[0], min(lines - 4, CHART_LINES[1])),
        colour=tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
        braille="utf" in (sys.stdout.encoding or "").lower(),
    )
    return "\n".join([heading(answer), *chart(spans, frame), _summary(answer, spans), ""])


def heading(answer: Answer) -> str:
    """The point in words: title, unit, device, range of the city's clock."""
    title = answer.point.title.get("en") or answer.name
    unit = f" [{answer.point.unit}]" if answer.point.unit else ""
    every = f", every {answer.every_ms / MS_PER_S:g} s" if answer.every_ms is not None else ""
    start, end = (local(at)[:16] for at in answer.span_ms)
    return f"{title}{unit}: {answer.device} {answer.name}, {start} – {end}{every}"


def nothing(answer: Answer) -> str:
    """That there is nothing, and when there was something."""
    if answer.samples:
        return f"no number to draw: {len(answer.samples)} values are bad or tests; show them with -o table"
    if answer.newest is None:
        return "no value at all is stored of this point"
    return f"no values in this range; the newest is of {local(answer.newest.at_ms)} ({answer.newest.quality.value})"


def chart_step_ms(span_ms: tuple[float, float]) -> int:
    """The interval by which a long range is drawn."""
    wanted_s = (span_ms[1] - span_ms[0]) / MS_PER_S / CHART_STEPS
    return int(next((step for step in STEPS_S if step >= wanted_s), math.ceil(wanted_s / STEPS_S[-1]) * STEPS_S[-1]) * MS_PER_S)


def latest_row(row: Latest, point: Point) -> Row:
    """One last value as plain data: {"device", "point", "value", "unit", "quality", "why", "observed", "title"}."""
    values = (
        row.device,
        row.point,
        worded(row.value, point),
        point.unit,
        row.quality.value,
        row.why,
        utc(row.observed_ms),
        point.title,
    )
    return dict(zip(LATEST_COLUMNS, values, strict=True)) | {"observed_ms": row.observed_ms}


def latest_table(rows: Sequence[Row]) -> str:
    """For a person."""
    if not rows:
        return "no value at all is stored\n"
    shown = [
        [
            r["device"],
            r["point"],
            _plain(r["value"]),
            r["unit"],
            r["quality"],
            r["why"],
            local(r["observed_ms"]),
            r["title"].get("en", ""),
        ]
        for r in rows
    ]
    return aligned([[*LATEST_COLUMNS[:-2], f"observed ({ZONE.key})", "title"], *shown])


def worded(value: Scalar | None, point: Point) -> Scalar | None:
    """A bool is stored as 0 or 1."""
    return bool(value) if point.kind == "bool" and isinstance(value, float) else value


def aligned(rows: Iterable[Sequence[str]]) -> str:
    """Columns one under the other."""
    rows = list(rows)
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "".join(f"{'  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()}\n" for row in rows)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _summary(answer: Answer, spans: Sequence[Span]) -> str:
    low, high = min(span.low for span in spans), max(span.high for span in spans)
    weights = [i.values for i in answer.intervals] or [1] * len(spans)
    mean = math.fsum(span.mean * n for span, n in zip(spans, weights, strict=False)) / sum(weights[: len(spans)])
    left = [f"{sum(s.quality is Quality.BAD for s in answer.samples)} bad", f"{sum(s.test for s in answer.samples)} tests"]
    omitted = [text for text in left if not text.startswith("0 ")]
    said = f"; not drawn: {', '.join(omitted)}" if omitted else ""
    unit = f" {answer.point.unit}" if answer.point.unit else ""
    return f"min {low:.6g}  mean {mean:.6g}  max {high:.6g}{unit}  ({sum(weights[: len(spans)])} values{said})"


SHOW: dict[str, Callable[[Answer], str]] = {"table": as_table, "json": as_json, "csv": as_csv, "chart": as_chart}
