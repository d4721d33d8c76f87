"""What a note or a file is about: a building or a device."""

from __future__ import annotations

from typing import Literal, NamedTuple

from tortoise.backends.base.client import BaseDBAsyncClient

from iotcore.errors import Refused
from iotcore.registry.tables import DeviceRow, PremisesRow


class Subject(NamedTuple):
    """A building or a device, by its id."""

    kind: Literal["premises", "device"]
    id: str

    def column(self) -> dict[str, str]:
        """As its tables refer to it."""
        return {f"{self.kind}_id": self.id}

    def __str__(self) -> str:
        return f"{self.kind} {self.id!r}"


async def exists(db: BaseDBAsyncClient, subject: Subject) -> None:
    """Whether it is there; raises Refused `unknown_premises` or `unknown_device`."""
    table = DeviceRow if subject.kind == "device" else PremisesRow
    if not await table.filter(id=subject.id).using_db(db).exists():
        raise Refused(f"unknown_{subject.kind}", f"no {subject} is registered")
