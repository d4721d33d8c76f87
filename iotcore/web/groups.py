"""Groups of devices: a page of all, a page of each with its members, and the same as JSON.

/groups  /groups/<name>  /groups/<name>.csv
/api/v1/groups  /api/v1/groups/<name>
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from quart import Quart, Response, abort

from iotcore.registry import groups
from iotcore.registry.coverage_report import as_csv
from iotcore.registry.directory import Binding, Directory
from iotcore.registry.groups import Group, Groups
from iotcore.registry.rights import Right
from iotcore.web.door import Door, Scope, visiting
from iotcore.web.history import NOT_FOUND, answer
from iotcore.web.problem import problem
from iotcore.web.screen import Screen

SHOWN = 500  # members on the page; JSON and CSV have all
COLUMNS = ("device", "title", "model", "state", "premises", "firmware")
Row = dict[str, Any]


class Known(Protocol):
    """What is asked of `process.grouped.Grouped`."""

    groups: Mapping[str, Group]
    members: Groups

    def firmware(self, device: str) -> str:
        """What a device reported last."""


@dataclass(frozen=True, slots=True)
class GroupPages:
    """Of the members of a group everybody sees those that stand in their areas."""

    known: Known
    directory: Callable[[], Directory]

    def add(self, app: Quart, door: Door, screen: Screen) -> None:
        """Declare the routes."""

        async def page() -> Response:
            return screen.page("groups.html", groups=self._all())

        async def one(name: str) -> Response:
            group = self.known.groups.get(name)
            if group is None:
                abort(NOT_FOUND, "no such group")
            rows = self._members(name)
            query = json.dumps(msgspec.to_builtins(group.document.query), ensure_ascii=False, indent=1)
            return screen.page("group.html", group=group, members=rows[:SHOWN], count=len(rows), query=query)

        async def table(name: str) -> Response:
            if name not in self.known.groups:
                abort(NOT_FOUND, "no such group")
            headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
            return Response(as_csv(COLUMNS, self._members(name)), headers=headers, content_type="text/csv; charset=utf-8")

        async def api() -> Response:
            return answer({"groups": self._all()})

        async def api_one(name: str) -> Response:
            group = self.known.groups.get(name)
            if group is None:
                return problem(NOT_FOUND, "unknown_group", "there is no such group")
            document = msgspec.to_builtins(group.document)
            return answer({"group": name, **document, "version": group.version, "members": self._members(name)})

        routes: dict[str, Callable[..., Awaitable[Response]]] = {
            "/groups": page,
            "/groups/<name>": one,
            "/groups/<name>.csv": table,
            "/api/v1/groups": api,
            "/api/v1/groups/<name>": api_one,
        }
        for path, handler in routes.items():
            door.route(app, path, handler, right=Right.SEE, of=Scope.FILTERED)

    def _all(self) -> list[Row]:
        return [
            {"group": one.id, "title": one.document.title, "devices": len(self._bindings(one.id)), "version": one.version}
            for one in self.known.groups.values()
        ]

    def _members(self, name: str) -> list[Row]:
        return [
            {
                "device": one.device,
                "title": one.title,
                "model": one.spec.model,
                "state": one.state,
                "premises": one.premises,
                "firmware": self.known.firmware(one.device),
            }
            for one in groups.ordered(self._bindings(name))
        ]

    def _bindings(self, name: str) -> list[Binding]:
        directory, visitor = self.directory(), visiting()
        found = [directory.devices[device] for device in self.known.members.members(name) if device in directory.devices]
        everything = visitor.may(Right.SEE)
        return [one for one in found if everything or visitor.may(Right.SEE, directory.areas_of(one.premises))]
