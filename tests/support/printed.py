"""What a PDF says, by poppler's own reading of it."""

from __future__ import annotations

import re
import subprocess
import unicodedata
from pathlib import Path

from tests.support.services import require


def printed(pdf: bytes, folder: Path, *, layout: bool = False) -> str:
    """Its text in NFC with single blanks, so that a line that wrapped reads as it was; with `layout` as it stands on the page."""
    path = folder / "printed.pdf"
    path.write_bytes(pdf)
    options = ["-layout"] if layout else ["-raw"]
    done = subprocess.run(
        [require("pdftotext"), *options, "-enc", "UTF-8", path, "-"], capture_output=True, timeout=30, check=True
    )
    text = unicodedata.normalize("NFC", done.stdout.decode())
    return text if layout else re.sub(r"\s+", " ", text)


def pages(pdf: bytes, folder: Path) -> int:
    """How many pages it has."""
    path = folder / "printed.pdf"
    path.write_bytes(pdf)
    done = subprocess.run([require("pdfinfo"), path], capture_output=True, text=True, timeout=30, check=True)
    return int(re.search(r"^Pages:\s+(\d+)", done.stdout, re.MULTILINE)[1])  # type: ignore[index]  # pdfinfo says so
