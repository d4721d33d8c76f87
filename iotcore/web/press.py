"""Where papers are made: drawn off the event loop, signed, and noted in the audit with their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from quart import Response

from iotcore.journal.database import Place
from iotcore.off_loop import OffLoop
from iotcore.paper.signed import Seal, sign
from iotcore.web.bilingual import Both

MOST_WAITING = 8  # papers at once, one after the other; each takes a second or two


class Made(NamedTuple):
    """What a paper is, for its signature and the audit: our name of its kind, what it is about, who asked, and of which place."""

    action: str
    subject: str
    by: str
    place: str


@dataclass(frozen=True, slots=True)
class Press:
    """`seal()` is who signs; it may block. `note(by, action, subject, detail)` writes into the audit."""

    off_loop: OffLoop
    seal: Callable[[], Seal]
    both: Both
    note: Callable[[str, str, str, str], Awaitable[None]]

    async def paper(self, draw: Callable[[Both], bytes], made: Made) -> bytes:
        """A signed paper, noted in the audit.

        Raises:
            StoreError: the registry does not answer, or too many wait for a paper already.
            StartError: the certificate or its key cannot be read.
        """
        drawn, seal = await self.off_loop(lambda: (draw(self.both), self.seal()))
        pdf = await sign(drawn, seal, f"{made.action}: {made.subject}, {made.by}", made.place)
        await self.note(made.by, made.action, made.subject, f"sha256 {hashlib.sha256(pdf).hexdigest()}")
        return pdf


def named(journal: Place) -> str:
    """A journal as a paper names it: neither passwords nor folders."""
    if isinstance(journal, Path):
        return journal.name
    parts = urlsplit(journal)
    return f"PostgreSQL {parts.hostname}{parts.path}"


def saved(pdf: bytes, name: str) -> Response:
    """A paper as something to save."""
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
    return Response(pdf, 200, headers, content_type="application/pdf")
