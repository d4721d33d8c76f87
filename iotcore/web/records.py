"""What the registry knows of a device besides its readings: for its page, and the files that belong to it.

A file is shown as what it was when it came in, and never as a page: a photo as a picture, a PDF as something to save.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from quart import Quart, Response, abort

from iotcore.errors import Refused, StoreError
from iotcore.registry.attachments import Attachment
from iotcore.registry.places import Known
from iotcore.registry.rights import Right
from iotcore.registry.subjects import Subject
from iotcore.web.door import Door

SUFFIX = {"image/png": ".png", "image/jpeg": ".jpg", "application/pdf": ".pdf"}
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Records:
    """Where it is asked for.

    `known`: what is known of a building or device; `file`: one of its files by id; `read`: a content by SHA-256, it blocks;
    `groups`: id and title of the groups that a device is in.
    """

    known: Callable[[Subject], Awaitable[Known]]
    file: Callable[[str], Awaitable[Attachment]]
    read: Callable[[str], bytes]
    groups: Callable[[str], Sequence[tuple[str, str]]]

    def add(self, app: Quart, door: Door) -> None:
        """Declare its route: who may see a device may see its files."""
        door.route(app, "/devices/<name>/files/<file>", self.shown, right=Right.SEE, of=door.device("name"))

    async def of(self, device: str) -> Known | None:
        """What is known of a device; None when it is gone."""
        try:
            return await self.known(Subject("device", device))
        except Refused:
            return None

    async def shown(self, name: str, file: str) -> Response:
        """The content of a file of a device."""
        try:
            found = await self.file(file)
            if found.subject != Subject("device", name):
                abort(404, "no such file of this device")
            content = await asyncio.to_thread(self.read, found.sha256)
        except Refused:
            abort(404, "no such file")
        except StoreError as error:
            abort(410, str(error).rpartition("/")[2])
        picture = found.media_type.startswith("image/")
        title = quote(found.title + SUFFIX.get(found.media_type, ""))
        headers = {
            "Content-Disposition": f"{'inline' if picture else 'attachment'}; filename*=UTF-8''{title}",
            "Cache-Control": f"private, max-age={DAY_S}, immutable",
        }
        return Response(content, 200, headers, content_type=found.media_type)
