"""A table on paper: heads that come again on every page, cells that wrap, rows that are never cut in two. Lengths are mm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fpdf import FPDF

from iotcore.paper.labels import wrapped
from iotcore.paper.sheet import FONT

POINTS = 7.5
LINE_MM = 3.4
PADDING_MM = 1.0
TALLEST_LINES = 40  # of one cell: about a page would not fit; what is longer ends in an ellipsis
ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Table:
    """Heads in both languages and rows of the same count. `shares` are the columns' parts of the width."""

    heads: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str]]
    shares: Sequence[float]


def draw(pdf: FPDF, table: Table) -> None:
    """The table at the current place, over as many pages as it takes."""
    widths = [share / sum(table.shares) * pdf.epw for share in table.shares]
    _heads(pdf, table, widths)
    for row in table.rows:
        _font(pdf, bold=False)
        cells = [_lines(pdf, text or "–", width) for text, width in zip(row, widths, strict=True)]
        height = max(len(lines) for lines in cells) * LINE_MM + PADDING_MM
        if pdf.will_page_break(height):
            pdf.add_page()
            _heads(pdf, table, widths)
            _font(pdf, bold=False)
        _row(pdf, cells, widths, height)


def _heads(pdf: FPDF, table: Table, widths: Sequence[float]) -> None:
    _font(pdf, bold=True)
    cells = [
        [line for text in head for line in _lines(pdf, text, width)] for head, width in zip(table.heads, widths, strict=True)
    ]
    height = max(len(lines) for lines in cells) * LINE_MM + PADDING_MM
    if pdf.will_page_break(height + 2 * LINE_MM):  # never alone at the foot of a page
        pdf.add_page()
    pdf.set_text_color(60)
    _row(pdf, cells, widths, height)
    pdf.set_text_color(0)


def _row(pdf: FPDF, cells: Sequence[Sequence[str]], widths: Sequence[float], height: float) -> None:
    left, top = pdf.l_margin, pdf.get_y()
    for lines, width in zip(cells, widths, strict=True):
        for number, line in enumerate(lines):
            pdf.set_xy(left, top + PADDING_MM / 2.0 + number * LINE_MM)
            pdf.cell(width, LINE_MM, line)
        left += width
    pdf.set_draw_color(200)
    pdf.line(pdf.l_margin, top + height, pdf.l_margin + pdf.epw, top + height)
    pdf.set_draw_color(0)
    pdf.set_xy(pdf.l_margin, top + height)


def _lines(pdf: FPDF, text: str, width: float) -> list[str]:
    room = width - 2.0 * pdf.c_margin
    lines = [line for part in text.split("\n") for line in wrapped(pdf, part, room)] or [""]
    return lines if len(lines) <= TALLEST_LINES else [*lines[: TALLEST_LINES - 1], ELLIPSIS]


def _font(pdf: FPDF, *, bold: bool) -> None:
    pdf.set_font(FONT, "B" if bold else "", POINTS)
