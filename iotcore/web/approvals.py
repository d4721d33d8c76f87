"""What takes two admins: one has asked for it at the command line, another says yes or no here."""

from __future__ import annotations

import json
from dataclasses import dataclass

from quart import Quart, Response, redirect

from iotcore.errors import Refused
from iotcore.registry.accounts import Accounts
from iotcore.registry.rights import Right
from iotcore.web.door import Door, visiting
from iotcore.web.problem import problem, wants_problem
from iotcore.web.screen import Screen

CONFLICT = 409
SHOWN = 50


@dataclass(frozen=True, slots=True)
class ApprovalPage:
    """The routes."""

    accounts: Accounts
    door: Door
    screen: Screen

    def add(self, app: Quart) -> None:
        """Declare the routes."""
        self.door.route(app, "/approvals", self.page, right=Right.APPROVE)
        self.door.route(app, "/approvals/<int:number>/approve", self.approve, right=Right.APPROVE, methods=["POST"])
        self.door.route(app, "/approvals/<int:number>/reject", self.reject, right=Right.APPROVE, methods=["POST"])

    async def page(self) -> Response:
        """What waits, and what became of the rest."""
        return await self._page()

    async def approve(self, number: int) -> Response:
        """Say yes."""
        return await self._decide(number, approve=True)

    async def reject(self, number: int) -> Response:
        """Say no."""
        return await self._decide(number, approve=False)

    async def _decide(self, number: int, *, approve: bool) -> Response:
        try:
            await self.accounts.approvals.decide(number, visiting().user, approve=approve)
        except Refused as refused:
            if wants_problem():
                return problem(CONFLICT, refused.reason, refused.detail)
            return await self._page(CONFLICT, refused.reason)
        return redirect("/approvals", 303)  # type: ignore[return-value]  # quart's own wrapper of a response

    async def _page(self, code: int = 200, wrong: str = "") -> Response:
        found = (await self.accounts.approvals.all())[:SHOWN]
        told = [(one, _listed(one.arguments)) for one in found]
        return self.screen.page("approvals.html", code, approvals=told, wrong=wrong)


def _listed(arguments: str) -> list[str]:
    return [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in json.loads(arguments).items()]
