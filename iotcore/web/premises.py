"""A premises: response plan, drills, what is out of service there, who tests it. The plan as JSON for programs, with versions.

GET /premises/<premises>
GET | PUT | DELETE /api/v1/premises/<premises>/response        ETag, If-Match ("0" for a plan that is not there yet)
GET /api/v1/premises/<premises>/response/history
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from quart import Quart, Response, abort, request

from iotcore.errors import ConfigError, Refused
from iotcore.journal.drills import Standing
from iotcore.registry.accounts import Accounts
from iotcore.registry.audit import canonical
from iotcore.registry.directory import Directory, Walk
from iotcore.registry.response import DEFAULT, check, parse, weaker
from iotcore.registry.response import Response as Plan
from iotcore.registry.responses import Kept, Responses
from iotcore.registry.rights import Right
from iotcore.web.door import Door, visiting
from iotcore.web.given import refused
from iotcore.web.history import answer
from iotcore.web.out import Out, Shown
from iotcore.web.outages import place_of
from iotcore.web.problem import problem
from iotcore.web.screen import Screen

ACTION = "response.save"  # as the command line asks for a second person
PRECONDITION_REQUIRED, UNPROCESSABLE, ACCEPTED = 428, 422, 202


@dataclass(frozen=True, slots=True)
class PremisesPages:
    """`receivers` are the names that a plan may tell; `progress(walk)` says what a walk test has proved."""

    plans: Responses
    out: Out
    directory: Callable[[], Directory]
    accounts: Accounts
    receivers: Sequence[str]
    two_persons: bool
    progress: Callable[[Walk], Awaitable[Shown]]
    open_incident: Callable[[str], Awaitable[str]]
    drills: Callable[[str], Awaitable[Standing]]

    def add(self, app: Quart, door: Door, screen: Screen) -> None:
        """Declare the routes."""

        async def page(premises: str) -> Response:
            directory = self.directory()
            known = directory.premises.get(premises)
            if known is None:
                abort(404, "no such premises")
            zones = sorted((one for one in directory.zones.values() if one.premises == premises), key=lambda one: one.number)
            devices = sorted(b.device for b in directory.devices.values() if b.premises == premises)
            walks = [await self.progress(one) for one in directory.walks.values() if one.premises == premises]
            kept = await self.plans.get(premises)
            return screen.page(
                "premises.html",
                premises=known,
                zones=zones,
                devices=devices,
                out=self.out.of_premises(premises),
                walks=walks,
                plan=directory.response(premises),
                kept=kept,
                incident=await self.open_incident(premises),
                drilled=await self.drills(premises),
            )

        path = "/api/v1/premises/<premises>/response"
        door.route(app, "/premises/<premises>", page, right=Right.SEE, of=self._place)
        door.route(app, path, self._get, right=Right.SEE, of=self._place)
        door.route(app, f"{path}/history", self._history, right=Right.SEE, of=self._place)
        door.route(app, path, self._put, right=Right.CHANGE_RESPONSES, of=self._place, methods=["PUT"])
        door.route(app, path, self._delete, right=Right.CHANGE_RESPONSES, of=self._place, methods=["DELETE"])

    async def _get(self, premises: str) -> Response:
        return _answered(premises, await self.plans.get(premises))

    async def _history(self, premises: str) -> Response:
        rows = [
            {"version": one.version, "by": one.by, "at_ms": one.at_ms, "removed": one.removed, "plan": _plain(one.response)}
            for one in await self.plans.history(premises)
        ]
        return answer({"premises": premises, "versions": rows})

    async def _put(self, premises: str) -> Response:
        text = str(await request.get_data(as_text=True))
        try:
            plan = check(parse(text, "response"), self.receivers)  # JSON is YAML
        except ConfigError as error:
            return _wrong(error)
        return await self._change(premises, plan)

    async def _delete(self, premises: str) -> Response:
        return await self._change(premises, None)

    async def _change(self, premises: str, plan: Plan | None) -> Response:
        """Save a plan, or with None forget it; what protects less takes two persons."""
        matched = request.headers.get("If-Match", "").strip().removeprefix("W/").strip('"')
        if matched != "*" and not matched.isdecimal():
            return problem(PRECONDITION_REQUIRED, "no_version", "send If-Match with the version that you have seen, 0 for none")
        expected = None if matched == "*" else int(matched)
        try:
            before = await self.plans.get(premises)
            now = before.version if before is not None else 0
            if expected not in (None, now):
                return refused(Refused("conflict", f"the plan of {premises!r} has version {now}, not {expected}: look again"))
            await self._insist(premises, before, DEFAULT if plan is None else plan)
            if plan is None:
                await self.plans.remove(premises, visiting().by, expected)
            else:
                await self.plans.save(premises, plan, visiting().by, expected)
            return _answered(premises, await self.plans.get(premises))
        except Refused as why:
            return refused(why)

    async def _insist(self, premises: str, before: Kept | None, plan: Plan) -> None:
        """Go on only with what another admin has approved; else ask for it. Raises Refused."""
        was = before.response if before is not None and before.response is not None else DEFAULT
        why = weaker(was, plan)
        if not why or was == plan or not self.two_persons:
            return
        text = canonical(msgspec.to_builtins(plan))
        digest = hashlib.sha256(text.encode()).hexdigest()
        arguments: dict[str, object] = {"premises": premises, "weaker": list(why), "plan_sha256": digest}
        if await self.accounts.approvals.take(ACTION, arguments, visiting().user) is None:
            asked = await self.accounts.approvals.ask(ACTION, arguments, visiting().user)
            do = f"another admin must say yes to approval {asked.id} within a day (/approvals); then send this again"
            raise Refused("second_person", f"it protects less ({'; '.join(why)}): {do}")

    def _place(self, arguments: Mapping[str, Any]) -> Collection[str] | None:
        return place_of(self.directory(), arguments["premises"])


def _answered(premises: str, kept: Kept | None) -> Response:
    version = kept.version if kept is not None else 0
    plan = DEFAULT if kept is None else kept.response
    document = {"premises": premises, "version": version, "readable": plan is not None, **_plain(plan)}
    response = answer(document)
    response.headers["ETag"] = f'"{version}"'
    return response


def _plain(plan: Plan | None) -> dict[str, Any]:
    return msgspec.to_builtins(plan) if plan is not None else {}


def _wrong(error: ConfigError) -> Response:
    """A problem document that lists every error with its path."""
    document = {
        "type": "urn:iotcore:problem:bad_response",
        "title": "bad response",
        "status": UNPROCESSABLE,
        "detail": "the plan is refused whole",
        "errors": [{"path": one.path, "reason": one.reason} for one in error.problems],
    }
    return Response(json.dumps(document, ensure_ascii=False), UNPROCESSABLE, content_type="application/problem+json")
