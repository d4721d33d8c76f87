"""Requests for certificates that wait for a person: approved or rejected here by whoever provisions in the device's area.

/enrolments  /enrolments/<number>/approve  /enrolments/<number>/reject
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quart import Quart, Response, redirect, request

from iotcore.errors import Refused
from iotcore.registry.directory import Directory
from iotcore.registry.enrolments import Enrolments
from iotcore.registry.requests import EnrolmentRequest
from iotcore.registry.rights import Right
from iotcore.web.door import Door, Scope, visiting
from iotcore.web.problem import problem, wants_problem
from iotcore.web.screen import Screen

CONFLICT = 409
SHOWN = 200
MAX_REASON = 200  # characters


@dataclass(frozen=True, slots=True)
class EnrolmentPages:
    """The routes. What is of another area is no request at all: a refusal would tell that it exists."""

    enrolments: Enrolments
    directory: Callable[[], Directory]

    def add(self, app: Quart, door: Door, screen: Screen) -> None:
        """Declare the routes."""

        async def page(code: int = 200, wrong: str = "") -> Response:
            directory, found = self.directory(), await self._seen()
            told = [(one, directory.devices[one.device]) for one in found[:SHOWN]]
            return screen.page("enrolments.html", code, requests=told, count=len(found), wrong=wrong)

        async def decide(number: int, *, approve: bool) -> Response:
            reason = (await request.form).get("reason", "").strip()[:MAX_REASON]
            try:
                await self._decide(number, reason, approve=approve)
            except Refused as refused:
                if wants_problem():
                    return problem(CONFLICT, refused.reason, refused.detail)
                return await page(CONFLICT, refused.reason)
            return redirect("/enrolments", 303)  # type: ignore[return-value]  # quart's own wrapper of a response

        async def shown() -> Response:
            return await page()

        async def approve(number: int) -> Response:
            return await decide(number, approve=True)

        async def reject(number: int) -> Response:
            return await decide(number, approve=False)

        door.route(app, "/enrolments", shown, right=Right.PROVISION, of=Scope.FILTERED)
        for verb, handler in (("approve", approve), ("reject", reject)):
            path = f"/enrolments/<int:number>/{verb}"
            door.route(app, path, handler, right=Right.PROVISION, of=Scope.FILTERED, methods=["POST"])

    async def _decide(self, number: int, reason: str, *, approve: bool) -> None:
        if not any(one.id == number for one in await self._seen()):
            raise Refused("unknown_request", f"there is no request {number}, or its time is over")
        if not approve and not reason:
            raise Refused("no_reason", "say why it is rejected (form field `reason`)")
        await self.enrolments.decide(number, visiting().by, approve=approve, reason=reason)

    async def _seen(self) -> list[EnrolmentRequest]:
        """Those of devices that the visitor may provision, the oldest first."""
        directory, visitor = self.directory(), visiting()
        return [
            one
            for one in await self.enrolments.requests()
            if one.device in directory.devices
            and visitor.may(Right.PROVISION, directory.areas_of(directory.devices[one.device].premises))
        ]
