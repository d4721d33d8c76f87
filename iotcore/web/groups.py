"""Groups of devices: a page of all, a page of each with its members, and the same as JSON.

/groups  /groups/<name>  /groups/<name>.csv
/api/v1/groups  /api/v1/groups/<name>
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from quart import Quart, Response, abort

from iotcore.registry import groups
from iotcore.registry.coverage_report import as_csv
from iotcore.registry.directory import Binding, Directory
from iotcore.registry.groups import Group, Groups
from iotcore.web.history import NOT_FOUND, answer, problem

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
    """`may(place)`: whether whoever makes the request may see what stands in these areas; members elsewhere are left out."""

    known: Known
    directory: Callable[[], Directory]
    may: Callable[[Collection[str]], bool] = lambda place: True  # noqa: ARG005 - whoever asks may see everything

    def register(self, app: Quart, draw: Callable[..., Response]) -> None:
        """Add the routes; `draw(template, **values)` is a page in the reader's language."""

        async def page() -> Response:
            return draw("groups.html", groups=self._all())

        async def one(name: str) -> Response:
            group = self.known.groups.get(name)
            if group is None:
                abort(NOT_FOUND, "no such group")
            rows = self._members(name)
            query = json.dumps(msgspec.to_builtins(group.document.query), ensure_ascii=False, indent=1)
            return draw("group.html", group=group, members=rows[:SHOWN], count=len(rows), query=query)

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

        app.add_url_rule("/groups", "groups", page)
        app.add_url_rule("/groups/<name>", "group", one)
        app.add_url_rule("/groups/<name>.csv", "group_csv", table)
        app.add_url_rule("/api/v1/groups", "groups_api", api)
        app.add_url_rule("/api/v1/groups/<name>", "group_api", api_one)

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
        directory, everything = self.directory(), self.may(())
        found = [directory.devices[device] for device in self.known.members.members(name) if device in directory.devices]
        return [one for one in found if everything or self.may(_place(directory, one))]


def _place(directory: Directory, binding: Binding) -> tuple[str, ...]:
    premises = directory.premises.get(binding.premises)
    return tuple(directory.upwards(premises.area)) if premises is not None else ()
