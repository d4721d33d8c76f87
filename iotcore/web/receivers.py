"""What receivers tell us back: a dispatch centre of its crews, a telephone company of the key that was pressed.

    POST /api/v1/receivers/<name>/updates        signed as our own webhook is: Iotcore-Timestamp, Iotcore-Signature
    POST, GET /api/v1/receivers/<name>/calls/<token>   the address itself is signed, for one call and one hour

Nobody signs in here: what is not signed is refused. Both become intents, which the fire process applies; an id counts once.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec
from quart import Quart, Response, request

from iotcore.clock import Clock
from iotcore.dispatch import calls
from iotcore.dispatch.cad_webhook import unproven
from iotcore.errors import Refused, StoreError
from iotcore.journal.cad import Update
from iotcore.registry.records import IntentKind
from iotcore.settings_channels import VoiceReceiver
from iotcore.settings_receivers import Receiver, WebhookReceiver
from iotcore.web.console import TELEPHONE, UNAVAILABLE
from iotcore.web.door import Door
from iotcore.web.problem import problem
from iotcore.web.screen import Screen

SAID = {"1": "confirmed", "2": "denied"}
SAY_AGAIN = "if it was told just now, say this again in a minute"
BY_LENGTH = 64  # characters of who did it, in the registry
BAD_REQUEST, UNAUTHORIZED, NOT_FOUND = 400, 401, 404


class Intend(Protocol):
    """Writes an intent with what was said besides (`registry.store.Registry.intent`)."""

    def __call__(self, kind: IntentKind, key: str, by: str, address: str, body: str) -> Awaitable[int]:
        """The intent's id."""


class ReceiverPages:
    """The routes; `intend` writes what was told, `was_told` knows of an incident and a receiver."""

    def __init__(
        self, receivers: Sequence[Receiver], intend: Intend, was_told: Callable[[str, str], Awaitable[bool]], clock: Clock
    ) -> None:
        self._centres = {one.name: one for one in receivers if isinstance(one, WebhookReceiver)}
        self._callers = {one.name: one for one in receivers if isinstance(one, VoiceReceiver)}
        self._intend = intend
        self._was_told = was_told
        self._clock = clock

    def add(self, app: Quart, door: Door, screen: Screen) -> None:
        """Declare the routes."""
        del screen
        door.signed(app, "/api/v1/receivers/<name>/updates", self.update, methods=["POST"])
        door.signed(app, "/api/v1/receivers/<name>/calls/<token>", self.call, methods=["GET", "POST"])

    async def update(self, name: str) -> Response:
        """A dispatch centre says how it stands with an incident."""
        body: bytes = await request.get_data(as_text=False)  # type: ignore[assignment]  # quart's own overloads
        centre, headers = self._centres.get(name), request.headers
        timestamp, signature = headers.get("Iotcore-Timestamp", ""), headers.get("Iotcore-Signature", "")
        why = "unknown" if centre is None else unproven(centre.secret, timestamp, signature, body, self._clock.wall_ms() / 1000.0)
        if why:
            return problem(UNAUTHORIZED, "not_signed", f"{why}; sign with the secret of this receiver, and with the time of now")
        try:
            told = msgspec.json.decode(body, type=Update)
        except msgspec.DecodeError as error:
            return problem(BAD_REQUEST, "bad_update", str(error))
        if await self._never_told(told.incident, name):
            return problem(NOT_FOUND, "unknown_incident", f"{name} was told of no incident {told.incident}; {SAY_AGAIN}")
        return await self._intent("cad", f"{told.incident}/cad:{name}:{told.id}", f"receiver:{name}", msgspec.json.encode(told))

    async def _never_told(self, incident: str, name: str) -> bool:
        """Whether a centre speaks of what it cannot know; while the journal cannot say, whoever applies the update judges it."""
        try:
            return not await self._was_told(incident, name)
        except StoreError:
            return False

    async def call(self, name: str, token: str) -> Response:
        """Somebody pressed a key on the telephone."""
        caller = self._callers.get(name)
        if caller is None:
            return problem(UNAUTHORIZED, "bad_signature", "no such receiver")
        try:
            call = calls.read(caller.callback_secret, token, self._clock.wall_ms() / 1000.0)
        except Refused as refused:
            return problem(UNAUTHORIZED, refused.reason, refused.detail)
        key = await _field(caller.key_field)
        if key not in SAID:
            return problem(BAD_REQUEST, "bad_key", f"{caller.key_field} must be 1 (there is a fire) or 2 (there is none)")
        body = msgspec.json.encode({"said": SAID[key], "how": "voice"})
        return await self._intent("owner", f"{call.incident}/call:{call.id}", f"call:{call.name}", body)

    async def _intent(self, kind: IntentKind, key: str, by: str, body: bytes) -> Response:
        try:
            number = await self._intend(kind, key, by[:BY_LENGTH], request.remote_addr or "?", body.decode())
        except StoreError:
            return problem(UNAVAILABLE, "registry_down", TELEPHONE)
        except Refused as refused:
            return problem(BAD_REQUEST, refused.reason, refused.detail)
        return Response(json.dumps({"intent": number}), 202, content_type="application/json")


async def _field(name: str) -> str:
    """A field of a form, a JSON document, or the address."""
    if request.is_json:
        document = await request.get_json(silent=True)
        return str(document.get(name, "")) if isinstance(document, dict) else ""
    form = await request.form
    return str(form.get(name) or request.args.get(name, ""))
