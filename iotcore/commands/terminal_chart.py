"""A chart in the terminal: an envelope of minima and maxima in braille dots, two across and four down in each character.

    28.0 ┤      ⢀⡠⠤⠒⠉⠑⠢⣀
    26.0 ┤⣀⡠⠔⠒⠉⠁        ⠉⠒⠤        ⡠⠔⠒
         └┬─────────────┬────────────┬──
          09:00         09:30        10:00

A stretch without values stays empty: no line is drawn over a gap. Pure: spans in, lines of text out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from iotcore.commands.moments import MS_PER_S, ZONE

ACROSS, DOWN = 2, 4  # dots in a character: Unicode 15, block 2800–28FF, "Braille Patterns"
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # bits of the pattern, by row and column
BRAILLE = 0x2800
MIN_WIDTH, MIN_HEIGHT = 10, 4  # of the drawing, in characters: below that there is nothing to see
TIME_LABEL = 15  # characters between two labels of the time
TICK_ROWS = 3  # rows between two labels of the value
STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800)
MINUTE_S, DAY_S = 60, 86_400
ASCII = str.maketrans({"─": "-", "┬": "+", "└": "+", "┤": "+", "│": "|"})
COLOUR, PLAIN = "\x1b[36m", "\x1b[0m"


class Span(NamedTuple):
    """From the least to the greatest value at a time, and their mean, at which neighbours are joined."""

    at_ms: float
    low: float
    mean: float
    high: float


class Frame(NamedTuple):
    """What the chart shows of, and how large it is in characters, labels included."""

    start_ms: float
    end_ms: float
    gap_ms: float  # values further apart are not joined
    width: int
    height: int
    colour: bool = False
    braille: bool = True  # False: for a terminal that has no such characters


def chart(spans: Sequence[Span], frame: Frame) -> list[str]:
    """The drawing with its axes; `spans` by time, all numbers finite and within the frame's times."""
    low, high, step = _scale(min(span.low for span in spans), max(span.high for span in spans), frame.height)
    labels = [f"{low + step * n:,.{_decimals(step)}f}" for n in range(round((high - low) / step) + 1)]
    margin = max(map(len, labels)) + 2
    width, height = max(frame.width - margin, MIN_WIDTH), max(frame.height - 2, MIN_HEIGHT)
    cells = _cells(spans, frame, (low, high), (width, height))
    named = {height - 1 - round(n * (height - 1) / (len(labels) - 1)): text for n, text in enumerate(labels)}
    lines = []
    for row in range(height):
        drawn = "".join(_character(bits, braille=frame.braille) for bits in cells[row])
        shown = f"{COLOUR}{drawn}{PLAIN}" if frame.colour else drawn.rstrip()
        lines.append(f"{named.get(row, ''):>{margin - 2}} {'┤' if row in named else '│'}{shown}")
    lines += _times(frame, width, " " * (margin - 1))
    return lines if frame.braille else [line.translate(ASCII) for line in lines]


def _cells(spans: Sequence[Span], frame: Frame, scale: tuple[float, float], size: tuple[int, int]) -> list[list[int]]:
    """Braille bits of every character, by row and column."""
    width, height = size
    columns, rows = width * ACROSS, height * DOWN
    cells = [[0] * width for _ in range(height)]

    def x_of(at_ms: float) -> float:
        return (at_ms - frame.start_ms) / (frame.end_ms - frame.start_ms) * (columns - 1)

    def y_of(value: float) -> float:
        return (scale[1] - value) / (scale[1] - scale[0]) * (rows - 1)

    def mark(x: int, first: float, last: float) -> None:
        for y in range(round(min(first, last)), round(max(first, last)) + 1):
            cells[y // DOWN][x // ACROSS] |= DOTS[y % DOWN][x % ACROSS]

    before: Span | None = None
    for span in spans:
        mark(round(x_of(span.at_ms)), y_of(span.low), y_of(span.high))
        if before is not None and span.at_ms - before.at_ms <= frame.gap_ms:
            ends = [(x_of(one.at_ms), y_of(one.mean)) for one in (before, span)]
            for x, first, last in _between(*ends):
                mark(x, first, last)
        before = span
    return cells


def _between(start: tuple[float, float], end: tuple[float, float]) -> Iterator[tuple[int, float, float]]:
    """A straight line, column by column: the heights at which it comes in and goes out."""
    (x0, y0), (x1, y1) = start, end
    slope = (y1 - y0) / (x1 - x0) if x1 > x0 else 0.0
    for x in range(round(x0), round(x1) + 1):
        yield x, y0 + slope * (max(x - 0.5, x0) - x0), y0 + slope * (max(min(x + 0.5, x1), x0) - x0)


def _scale(low: float, high: float, height: int) -> tuple[float, float, float]:
    """Bounds and step of the values' axis: round numbers, as many as have room."""
    if high - low <= abs(high) * 1e-9:  # one value: a flat line in the middle
        low, high = low - (abs(low) * 0.05 or 0.5), high + (abs(high) * 0.05 or 0.5)
    wanted = (high - low) / max(1, (height - 2) // TICK_ROWS - 1)
    decade = 10.0 ** math.floor(math.log10(wanted))
    step = next(factor * decade for factor in (1.0, 2.0, 5.0, 10.0) if factor * decade >= wanted * (1.0 - 1e-9))
    return math.floor(low / step) * step, math.ceil(high / step) * step, step


def _decimals(step: float) -> int:
    return max(0, -math.floor(math.log10(step) + 1e-9))


def _character(bits: int, *, braille: bool) -> str:
    if not bits:
        return " "
    return chr(BRAILLE + bits) if braille else "*"


def _times(frame: Frame, width: int, indent: str) -> list[str]:
    """The axis of time and its labels, of the city's clock, at round times."""
    span_s = (frame.end_ms - frame.start_ms) / MS_PER_S
    wanted_s = span_s * TIME_LABEL / width
    step_s = next((step for step in STEPS_S if step >= wanted_s), math.ceil(wanted_s / DAY_S) * DAY_S)
    offset = datetime.fromtimestamp(frame.start_ms / MS_PER_S, ZONE).utcoffset()
    offset_s = offset.total_seconds() if offset else 0.0
    axis, words = ["─"] * width, [" "] * (width + TIME_LABEL)
    at_s = math.ceil((frame.start_ms / MS_PER_S + offset_s) / step_s) * step_s - offset_s
    while at_s * MS_PER_S < frame.end_ms:
        column = int((at_s * MS_PER_S - frame.start_ms) / (frame.end_ms - frame.start_ms) * (width - 1))
        label = _label(at_s, step_s)
        if column + len(label) <= width:
            axis[column] = "┬"
            words[column : column + len(label)] = label
        at_s += step_s
    return [f"{indent}└{''.join(axis)}", f"{indent} {''.join(words)}".rstrip()]


def _label(at_s: float, step_s: int) -> str:
    at = datetime.fromtimestamp(at_s, ZONE)
    if step_s >= DAY_S or (at.hour, at.minute, at.second) == (0, 0, 0):
        return f"{at:%Y-%m-%d}"
    return f"{at:%H:%M}" if step_s >= MINUTE_S else f"{at:%H:%M:%S}"
