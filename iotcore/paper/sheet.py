"""A document with the letters of Vietnamese: A4, Roboto; what every paper of ours starts from. Lengths are millimetres."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

import font_roboto
from fpdf import FPDF

FONT = "Roboto"
MARGIN_MM = 15.0


P = TypeVar("P", bound=FPDF)


def new(title: str, made: datetime, language: str) -> FPDF:
    """An empty document, named and dated: the same input makes the same bytes. `language` as in BCP 47."""
    return begin(FPDF(orientation="portrait", unit="mm", format="A4"), title, made, language)


def begin(pdf: P, title: str, made: datetime, language: str) -> P:
    """The same for a document of one's own kind, with a head or a foot of its own."""
    pdf.add_font(FONT, "", font_roboto.Roboto)
    pdf.add_font(FONT, "B", font_roboto.RobotoBold)
    pdf.set_margin(MARGIN_MM)
    pdf.set_title(title)
    pdf.set_lang(language)
    pdf.set_creation_date(made)
    pdf.set_font(FONT, size=10)
    return pdf
