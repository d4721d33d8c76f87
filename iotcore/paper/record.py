"""A record as a PDF: sections of what is known, checked and seen. Acceptance, an incident looked back at, drills of a month.

Everything on it is text that the caller has made, in two languages side by side; here it finds its place on the page.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from fpdf import FPDF

from iotcore.paper import sheet, table
from iotcore.paper.sheet import FONT
from iotcore.paper.table import Table

LABEL_MM = 55.0
LINE_MM = 5.0
PHOTO_MM = 58.0
PHOTOS_A_ROW = 3
GAP_MM = 3.0
MARKS = {"done": "[x]", "waiting": "[  ]", "failed": "[!]", "apart": "[–]"}
FOOT_MM = 18.0
MARK_MM = 10.0


@dataclass(frozen=True, slots=True)
class Line:
    """A label in both languages, and what stands there."""

    label: str
    label_en: str
    value: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A step of the checklist in both languages: what it is, how it stands, and what was found."""

    condition: Literal["done", "waiting", "failed", "apart"]  # apart: it does not concern this one
    text: str
    text_en: str
    found: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading in both languages and what stands below it."""

    heading: str
    heading_en: str
    lines: Sequence[Line] = ()
    steps: Sequence[Checked] = ()
    photos: Sequence[bytes] = ()  # JPEG
    table: Table | None = None  # below the lines and steps
    note: str = ""  # what the reader has to know of it


@dataclass(frozen=True, slots=True)
class Record:
    """A whole record. `foot` stands at the bottom of each page: how the paper is checked."""

    title: str
    title_en: str
    made: datetime
    sections: Sequence[Section]
    foot: str


class _Paper(FPDF):
    """A4 with the foot on every page."""

    foot = ""

    def footer(self) -> None:
        self.set_y(-FOOT_MM)
        self.set_font(FONT, size=7)
        self.set_text_color(90)
        self.multi_cell(0, 3.2, f"{self.foot}\n{self.page_no()} / {{nb}}", align="L")
        self.set_text_color(0)


def draw(record: Record) -> bytes:
    """The record as a PDF, not signed yet."""
    pdf = sheet.begin(
        _Paper(orientation="portrait", unit="mm", format="A4"), f"{record.title} – {record.title_en}", record.made, "vi"
    )
    pdf.foot = record.foot
    pdf.set_auto_page_break(auto=True, margin=FOOT_MM + GAP_MM)
    pdf.add_page()
    pdf.set_font(FONT, "B", 16)
    pdf.multi_cell(0, 8, record.title, new_x="LMARGIN", new_y="NEXT")
    pdf.set_font(FONT, "", 11)
    pdf.multi_cell(0, 6, record.title_en, new_x="LMARGIN", new_y="NEXT")
    for section in record.sections:
        _section(pdf, section)
    return bytes(pdf.output())


def _section(pdf: FPDF, section: Section) -> None:
    pdf.ln(GAP_MM)
    pdf.set_font(FONT, "B", 11)
    pdf.cell(0, 7, f"{section.heading} – {section.heading_en}", border="B", new_x="LMARGIN", new_y="NEXT")
    pdf.ln(1)
    for line in section.lines:
        _line(pdf, line)
    for step in section.steps:
        _step(pdf, step)
    if section.table is not None:
        table.draw(pdf, section.table)
    if section.note:
        _note(pdf, section.note)
    _photos(pdf, section.photos)


def _note(pdf: FPDF, text: str) -> None:
    pdf.set_font(FONT, "", 8)
    pdf.set_text_color(90)
    pdf.multi_cell(0, LINE_MM, text, align="L", new_x="LMARGIN", new_y="NEXT")
    pdf.set_text_color(0)


def _line(pdf: FPDF, line: Line) -> None:
    pdf.set_font(FONT, "", 9)
    label, value = f"{line.label} – {line.label_en}", line.value or "–"
    _together(pdf, max(_height_mm(pdf, LABEL_MM, label), _height_mm(pdf, pdf.epw - LABEL_MM, value)))
    top = pdf.get_y()
    pdf.set_text_color(90)
    pdf.multi_cell(LABEL_MM, LINE_MM, label, align="L", new_x="LMARGIN", new_y="NEXT")
    below = pdf.get_y()
    pdf.set_text_color(0)
    pdf.set_xy(pdf.l_margin + LABEL_MM, top)
    pdf.multi_cell(0, LINE_MM, value, align="L", new_x="LMARGIN", new_y="NEXT")
    pdf.set_y(max(below, pdf.get_y()))


def _step(pdf: FPDF, step: Checked) -> None:
    pdf.set_font(FONT, "", 9)
    wide, text = pdf.epw - MARK_MM, f"{step.text} – {step.text_en}"
    _together(pdf, _height_mm(pdf, wide, text) + (_height_mm(pdf, wide, step.found) if step.found else 0.0))
    pdf.set_font(FONT, "B", 9)
    pdf.cell(MARK_MM, LINE_MM, MARKS[step.condition])
    pdf.set_font(FONT, "", 9)
    pdf.multi_cell(wide, LINE_MM, text, align="L", new_x="LMARGIN", new_y="NEXT")
    if step.found:
        pdf.set_x(pdf.l_margin + MARK_MM)
        pdf.set_text_color(60)
        pdf.multi_cell(wide, LINE_MM, step.found, align="L", new_x="LMARGIN", new_y="NEXT")
        pdf.set_text_color(0)


def _photos(pdf: FPDF, photos: Sequence[bytes]) -> None:
    for first in range(0, len(photos), PHOTOS_A_ROW):
        _together(pdf, PHOTO_MM + GAP_MM)
        top = pdf.get_y() + 1
        for place, photo in enumerate(photos[first : first + PHOTOS_A_ROW]):
            left = pdf.l_margin + place * (PHOTO_MM + GAP_MM)
            pdf.image(io.BytesIO(photo), x=left, y=top, w=PHOTO_MM, h=PHOTO_MM, keep_aspect_ratio=True)
        pdf.set_y(top + PHOTO_MM + GAP_MM)


def _height_mm(pdf: FPDF, wide_mm: float, text: str) -> float:
    height = pdf.multi_cell(wide_mm, LINE_MM, text, align="L", dry_run=True, output="HEIGHT")
    assert isinstance(height, int | float), "of all that it can tell, the height was asked for"
    return height


def _together(pdf: FPDF, height_mm: float) -> None:
    """Begin a new page rather than cut something in two."""
    if pdf.will_page_break(height_mm):
        pdf.add_page()
