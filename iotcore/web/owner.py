"""The owner's page: a signed link, no login, two buttons. What is pressed is shown to the fire service and cancels nothing.

/owner/<incident>/<token>     the first answer counts; a link is good for a day (`registry.owner_links`)
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from quart import Quart, Response, abort, redirect, request

from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.journal.case import Case
from iotcore.registry import owner_links
from iotcore.registry.records import IntentKind
from iotcore.web.door import Door
from iotcore.web.screen import Screen

SAYS = ("confirmed", "denied")
NOT_FOUND, UNAVAILABLE = 404, 503


class Intend(Protocol):
    """Writes an intent (`registry.store`)."""

    def __call__(self, kind: IntentKind, key: str, by: str, address: str = "", body: str = "") -> Awaitable[int]:
        """The intent's id."""


@dataclass(frozen=True, slots=True)
class OwnerPage:
    """`case(incident)` reads the journal; `key()` is what links are signed with."""

    case: Callable[[str], Awaitable[Case | None]]
    key: Callable[[], Awaitable[bytes]]
    intend: Intend
    clock: Clock

    def add(self, app: Quart, door: Door, screen: Screen) -> None:
        """Declare the routes: open to whoever has the link."""

        async def page(incident: str, token: str) -> Response:
            case = await self._case(incident, token)
            if case is None:
                return screen.page("owner_gone.html", NOT_FOUND)
            return screen.page("owner.html", case=case, asked=request.args.get("said", ""))

        async def say(incident: str, token: str) -> Response:
            case, said = await self._case(incident, token), (await request.form).get("said", "")
            if case is None:
                return screen.page("owner_gone.html", NOT_FOUND)
            if said not in SAYS:
                abort(422, "say confirmed or denied")
            if not case.owner_said:
                body = json.dumps({"said": said, "how": "link"})
                try:
                    await self.intend("owner", f"{incident}/link", "owner", request.remote_addr or "?", body)
                except StoreError:
                    abort(UNAVAILABLE, "it is not written down; try again, or call the fire service: 114")
            return redirect(f"{request.path}?said=1", 303)  # type: ignore[return-value]  # quart's own wrapper of a response

        path = "/owner/<incident>/<token>"
        door.let_in(app, path, page)
        door.let_in(app, path, say, methods=["POST"])

    async def _case(self, incident: str, token: str) -> Case | None:
        """The incident of a link that is good."""
        try:
            key = await self.key()
        except StoreError:
            abort(UNAVAILABLE, "this cannot be looked up now; call the fire service: 114")
        return await self.case(incident) if owner_links.good(key, incident, token, self.clock.wall_ms()) else None
