"""Commissioning, for a technician with a phone before the device: what is done, what is next, live; test mode; what he tells.

    phone ─► its own store (IndexedDB) ─► PUT entries/<name made by the phone> ─► registry     cut off: it waits there
                                            told twice: the same entry; told over somebody else's: 409, and the phone asks

Reads what others wrote and writes only the registry and the folder of files: the fire lane hears of a test mode through `change`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

from quart import Quart, Request, Response, abort, request

from iotcore.clock import Clock
from iotcore.errors import Refused, StartError, StoreError
from iotcore.paper import photo
from iotcore.paper.signed import Seal, sign
from iotcore.registry.attachments import Content
from iotcore.registry.city import FIRE_CLASSES
from iotcore.registry.commissioning import MINUTE_MS, ONE_COUNTS, Commissioning, Entry, Told
from iotcore.registry.directory import InTest
from iotcore.registry.records import Certificate
from iotcore.registry.rights import Right
from iotcore.web import acceptance, checklist
from iotcore.web.checklist import Budget, Known
from iotcore.web.door import Door, visiting
from iotcore.web.screen import Screen
from iotcore.web.told import TOO_FAR_AHEAD_MS, checked
from iotcore.web.unit_view import Shown

ROOT = "/commissioning"
TEST_MINUTES = 10  # what the button asks for
STATUS = {
    "unknown_device": HTTPStatus.NOT_FOUND,
    "conflict": HTTPStatus.CONFLICT,
    "taken": HTTPStatus.CONFLICT,
    "open_steps": HTTPStatus.CONFLICT,
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}  # any other refusal is 422
STATIC = Path(__file__).parent / "static"


class Files(Protocol):
    """Files by the SHA-256 of their content (`provision.file_folder`)."""

    def keep(self, content: bytes) -> str:
        """Write one; its hash."""

    def read(self, name: str) -> bytes:
        """Read one; StoreError when it is not there or not what it was."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What commissioning works with. `seal()` is who signs papers now; `budget(device)` judges a Modbus unit's bus."""

    registry: Commissioning
    files: Files
    seal: Callable[[], Seal]
    budget: Callable[[str], Budget | None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of the console these pages share: a device as it is now, certificates by name, the door, how to draw."""

    device: Callable[[str], Awaitable[Shown | None]]
    certificates: Callable[[str], Awaitable[Sequence[Certificate]]]
    door: Door
    screen: Screen
    clock: Clock


class PhotoRequest(Request):
    """A request that may be as large as a photo where one is expected, and nowhere else."""

    def __init__(self, *arguments: Any, max_content_length: int | None = None, **more: Any) -> None:
        path = str(arguments[2])
        largest = photo.LARGEST_BYTES if path.startswith(f"{ROOT}/") and "/entries/" in path else max_content_length
        super().__init__(*arguments, max_content_length=largest, **more)


async def worker() -> Response:
    """The service worker, from the place whose pages it may answer for."""
    text = await asyncio.to_thread((STATIC / "commissioning_worker.js").read_text, encoding="utf-8")
    return Response(text, content_type="text/javascript; charset=utf-8")


class Commissioner:
    """The routes: for whoever may commission where the device stands."""

    def __init__(self, app: Quart, desk: Desk, around: Surroundings) -> None:
        self._desk = desk
        self._around = around
        app.request_class = PhotoRequest
        door, here = around.door, around.door.device("name")
        door.let_in(app, f"{ROOT}/worker.js", worker)  # the same for everybody
        for path, handler, method in (
            ("", self.show, "GET"),
            ("/steps", self.steps, "GET"),
            ("/test", self.start_test, "POST"),
            ("/test/end", self.end_test, "POST"),
            ("/entries/<entry>", self.take, "PUT"),
            ("/files/<file>", self.file, "GET"),
        ):
            door.route(app, f"{ROOT}/<name>{path}", handler, right=Right.COMMISSION, of=here, methods=[method])

    async def known(self, device: Shown) -> Known:
        """What the registry knows of a device."""
        name, registry = device["id"], self._desk.registry
        return Known(
            certificates=await self._around.certificates(device["publisher"]),
            last_test=(await registry.last_tests(name)).get(name),
            in_test=await registry.test_mode(name),
            entries=await registry.entries(name),
            budget=await asyncio.to_thread(self._desk.budget, name) if device["protocol"] == "modbus" else None,
            since_ms=await registry.unit_since(name),
        )

    async def show(self, name: str) -> Response:
        """The page; after it was opened once it works without a network."""
        return self._around.screen.page("commissioning.html", **await self._state(name))

    async def steps(self, name: str) -> Response:
        """What changes on the page."""
        return self._around.screen.page("commissioning_steps.html", **await self._state(name))

    async def start_test(self, name: str) -> Response:
        """Put the device into test mode."""
        device = await self._device(name)
        if device["class"] not in FIRE_CLASSES:
            abort(HTTPStatus.UNPROCESSABLE_ENTITY, "only a fire device has a test alarm")
        minutes = request.args.get("minutes", TEST_MINUTES, int)
        return await self._answered(self._desk.registry.start_test(name, minutes * MINUTE_MS, visiting().by), _in_test)

    async def end_test(self, name: str) -> Response:
        """Take the device out of test mode."""
        return await self._answered(self._desk.registry.end_test(name, visiting().by), lambda ended: {"ended": ended})

    async def take(self, name: str, entry: str) -> Response:
        """Keep what the technician told. The same again is answered like the first time."""
        device = await self._device(name)
        kind, at_ms, seen = request.args.get("kind", ""), request.args.get("at_ms", 0, int), request.args.get("seen", 0, int)
        content = await request.get_data(cache=False)
        return await self._answered(self._keep(device, Told(entry, name, kind, at_ms, seen=seen), content), _kept)  # type: ignore[arg-type]  # `add` checks the kind

    async def file(self, name: str, file: str) -> Response:
        """A photo or a record of this device."""
        entries = await self._desk.registry.entries(name)
        entry = next((one for one in entries if one.file == file), None)
        if entry is None:
            abort(HTTPStatus.NOT_FOUND, "no such file of this device")
        try:
            content = await asyncio.to_thread(self._desk.files.read, file)
        except StoreError as error:
            abort(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        if entry.kind == "photo":
            return Response(content, content_type="image/jpeg")
        named = {"Content-Disposition": f'attachment; filename="{name}-{entry.number}.pdf"'}
        return Response(content, content_type="application/pdf", headers=named)

    async def _state(self, name: str) -> dict[str, Any]:
        device = await self._device(name)
        known = await self.known(device)
        found = checklist.steps(device, known, self._around.clock.wall_ms())
        return {
            "device": device,
            "known": known,
            "steps": found,
            "open_steps": checklist.open_steps(found),
            "unmarked": checklist.unmarked(device, known),
            "signed": known.newest("sign"),
            "seen": {kind: one.number if (one := known.latest(kind)) else 0 for kind in ONE_COUNTS},
            "is_fire": device["class"] in FIRE_CLASSES,
            "test_minutes": TEST_MINUTES,
        }

    async def _device(self, name: str) -> Shown:
        device = await self._around.device(name)
        if device is None:
            abort(HTTPStatus.NOT_FOUND, "no such device")
        return device

    async def _keep(self, device: Shown, told: Told, content: bytes) -> tuple[Entry, bool]:
        """Check an entry by its kind, make the file that belongs to it, and store both."""
        if told.at_ms > self._around.clock.wall_ms() + TOO_FAR_AHEAD_MS:
            raise Refused("bad_time", "the phone's clock is a day ahead of ours: set it, then send this again")
        told = await asyncio.to_thread(checked, told, content, self._desk.files)
        if told.kind == "sign":
            known = await self.known(device)
            before = next((one for one in known.entries if one.id == told.id), None)
            if before is None:
                told = await self._signed(device, known, told)
        return await self._desk.registry.add(told, visiting().by)

    async def _signed(self, device: Shown, known: Known, told: Told) -> Told:
        """The signature with the checklist as it stands, and the record on paper.

        Raises:
            Refused: `open_steps` that the technician has not seen as open; `conflict` before any paper is made.
        """
        newest = known.latest("sign")
        if newest is not None and newest.number != told.seen:
            raise Refused("conflict", f"{newest.by} signed it in the meantime, as {newest.body['name']}")
        now_ms = self._around.clock.wall_ms()
        found = checklist.steps(device, known, now_ms)
        unseen = [name for name in checklist.open_steps(found) if name not in told.body["open"]]
        if unseen:
            raise Refused("open_steps", ", ".join(unseen))
        facts = acceptance.Facts(device, known, tuple(found), told, visiting().by, now_ms)
        pdf = await asyncio.to_thread(acceptance.drawn, facts, self._around.screen.pages.both(), self._desk.files.read)
        pdf = await sign(pdf, self._desk.seal(), f"{told.body['name']}: {device['id']}", device["address"])
        name = await asyncio.to_thread(self._desk.files.keep, pdf)
        title = f"{device['id']} {device['title']}"
        return acceptance.with_record(facts, Content("record", title, "application/pdf", len(pdf), name))

    async def _answered(self, work: Awaitable[Any], plain: Callable[[Any], Mapping[str, Any]]) -> Response:
        """What came of it, as JSON; a refusal with its reason."""
        try:
            return _json(plain(await work), HTTPStatus.OK)
        except Refused as refused:
            said = {"reason": refused.reason, "detail": refused.detail}
            return _json(said, STATUS.get(refused.reason, HTTPStatus.UNPROCESSABLE_ENTITY))
        except (StoreError, StartError) as error:
            return _json({"reason": "store", "detail": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE)


def _in_test(one: InTest) -> dict[str, Any]:
    return {"started_ms": one.started_ms, "until_ms": one.until_ms, "by": one.by}


def _kept(outcome: tuple[Entry, bool]) -> dict[str, Any]:
    entry, is_new = outcome
    return {"id": entry.id, "number": entry.number, "received_ms": entry.received_ms, "new": is_new, "file": entry.file}


def _json(body: Mapping[str, Any], status: HTTPStatus) -> Response:
    return Response(json.dumps(body, ensure_ascii=False), int(status), content_type="application/json")
