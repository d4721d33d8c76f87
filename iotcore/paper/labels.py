"""Sheets of labels: a QR code that leads to a device's page, and beside it what a person reads. Lengths are millimetres.

The code is drawn as rectangles, error correction M, with the quiet zone of four modules that ISO/IEC 18004 asks for. A label
carries no secret: whoever reads it learns an address.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import segno
from fpdf import FPDF

from iotcore.paper import sheet

A4_WIDTH_MM, A4_HEIGHT_MM = 210.0, 297.0
QUIET_MODULES = 4
PADDING_MM = 2.0
MAX_CODE_MM = 32.0
OVERLAP_MM = 0.02  # of neighbouring modules: lengths are rounded to 0.01 points, and a hairline between rows spoils a code
CODE_SHARE = 0.5  # of a label's width at most
LINE_FACTOR = 1.2  # a line's height, in sizes of its font
MM_PER_POINT = 25.4 / 72.0
MAX_POINTS, MIN_POINTS = 9.0, 5.0
POINTS_PER_MM = 0.28  # of a label's height: nine points on 37 mm
ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Layout:
    """A sheet of labels, in the middle of an A4 page; gaps are between the labels."""

    columns: int
    rows: int
    width_mm: float
    height_mm: float
    gap_mm: float = 0.0  # between columns; rows touch

    @property
    def count(self) -> int:
        """Labels on a page."""
        return self.columns * self.rows

    def corner(self, place: int) -> tuple[float, float]:
        """The upper left corner of a label, counted by rows from 0."""
        row, column = divmod(place, self.columns)
        left = (A4_WIDTH_MM - self.columns * self.width_mm - (self.columns - 1) * self.gap_mm) / 2.0
        top = (A4_HEIGHT_MM - self.rows * self.height_mm) / 2.0
        return left + column * (self.width_mm + self.gap_mm), top + row * self.height_mm


# Columns × rows and size as the makers of label sheets print them on the box.
LAYOUTS = {
    "3x8-70x37": Layout(3, 8, 70.0, 37.0),
    "3x8-63x34": Layout(3, 8, 63.5, 33.9, 2.5),
    "3x7-63x38": Layout(3, 7, 63.5, 38.1, 2.5),
    "2x7-99x38": Layout(2, 7, 99.1, 38.1, 2.5),
    "2x4-99x68": Layout(2, 4, 99.1, 67.7, 2.5),
    "5x13-38x21": Layout(5, 13, 38.1, 21.2, 2.5),
}


@dataclass(frozen=True, slots=True)
class Label:
    """What stands on a label: where the code leads, the name in bold, and further lines as far as there is room."""

    url: str
    name: str
    lines: Sequence[str] = ()


def draw(labels: Sequence[Label], layout: Layout, made: datetime, language: str, *, title: str, skip: int = 0) -> bytes:
    """A PDF of the labels; `skip` are the labels of the first page that were used before."""
    pdf = sheet.new(title, made, language)
    pdf.set_auto_page_break(auto=False)
    for number, label in enumerate(labels, skip):
        place = number % layout.count
        if place == 0 or number == skip:
            pdf.add_page()
        _draw(pdf, label, layout, *layout.corner(place))
    return bytes(pdf.output())


def _draw(pdf: FPDF, label: Label, layout: Layout, left: float, top: float) -> None:
    side = min(layout.height_mm - 2 * PADDING_MM, layout.width_mm * CODE_SHARE - PADDING_MM, MAX_CODE_MM)
    _code(pdf, label.url, left + PADDING_MM, top + (layout.height_mm - side) / 2.0, side)
    x = left + PADDING_MM + side + PADDING_MM / 2.0
    width = left + layout.width_mm - PADDING_MM - x
    points = max(MIN_POINTS, min(MAX_POINTS, layout.height_mm * POINTS_PER_MM))
    step = points * MM_PER_POINT * LINE_FACTOR
    room = int((layout.height_mm - 2 * PADDING_MM) / step)
    y = top + PADDING_MM
    for bold, text in _fitted(pdf, label, points, width, room):
        pdf.set_font(sheet.FONT, "B" if bold else "", points)
        pdf.set_xy(x, y)
        pdf.cell(width, step, text)
        y += step


def _fitted(pdf: FPDF, label: Label, points: float, width: float, room: int) -> Iterator[tuple[bool, str]]:
    """The lines that there is room for; what does not fit ends in an ellipsis. The name is never shortened."""
    pdf.set_font(sheet.FONT, "B", points)
    name = list(wrapped(pdf, label.name, width))
    yield from ((True, line) for line in name)
    room -= len(name)
    pdf.set_font(sheet.FONT, "", points)
    for number, text in enumerate(label.lines):
        left = len(label.lines) - number - 1
        lines = list(wrapped(pdf, text, width))
        allowed = max(1, min(len(lines), room - left))
        if room <= 0:
            return
        if len(lines) > allowed:
            lines = [*lines[: allowed - 1], _cut(pdf, lines[allowed - 1], width)]
        yield from ((False, line) for line in lines)
        room -= len(lines)


def wrapped(pdf: FPDF, text: str, width: float) -> Iterator[str]:
    """Lines of the current font no wider than `width`: broken between words, within one that is too long."""
    line = ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if pdf.get_string_width(joined) <= width:
            line = joined
            continue
        if line:
            yield line
        line = word
        while pdf.get_string_width(line) > width:
            fits = next(n for n in range(len(line) - 1, 0, -1) if n == 1 or pdf.get_string_width(line[:n]) <= width)
            yield line[:fits]
            line = line[fits:]
    if line:
        yield line


def _cut(pdf: FPDF, line: str, width: float) -> str:
    while line and pdf.get_string_width(line + ELLIPSIS) > width:
        line = line[:-1]
    return line.rstrip() + ELLIPSIS


def _code(pdf: FPDF, url: str, left: float, top: float, side: float) -> None:
    """The QR code, a rectangle for each run of dark modules in a row."""
    rows = [bytes(row) for row in segno.make(url, error="m", micro=False).matrix]
    module = side / (len(rows) + 2 * QUIET_MODULES)
    pdf.set_fill_color(0)
    for y, row in enumerate(rows):
        x = 0
        while x < len(row):
            run = next((n for n, dark in enumerate(row[x:]) if not dark), len(row) - x)
            if run:
                offset = QUIET_MODULES * module
                at = left + offset + x * module, top + offset + y * module
                pdf.rect(*at, run * module + OVERLAP_MM, module + OVERLAP_MM, style="F")
            x += max(run, 1)
