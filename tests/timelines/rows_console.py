"""Scenarios at the console and at the rules: what people may do, and what a broken rule changes. Real services."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iotcore.errors import ConfigError
from iotcore.process.ruled import WHOLE_S
from iotcore.registry.rights import Grant, Role
from tests.integration.test_rules_followed import Followed
from tests.integration.test_web_rights import AREAS, once_known
from tests.support.console import Console, console
from tests.support.registry_sql import sql
from tests.support.ruling import level
from tests.support.until import until
from tests.support.visits import BROWSER
from tests.timelines.notation import Deed, Row, Seen, Step, at, never, sight, want

OWN = {**BROWSER, "Accept": "application/json"}
MAY = "a dispatcher of this ward"
PEOPLE = {
    "a viewer": Grant(Role.VIEWER),
    "a dispatcher of another ward": Grant(Role.DISPATCHER, "dong-quang"),
    MAY: Grant(Role.DISPATCHER, "hac-thanh"),
}


@dataclass(slots=True)
class Desk:
    """What a row's deeds have at hand."""

    at: Any
    seen: list[Seen] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)
    incident: str = ""
    client: Any = None

    def note(self, kind: str, /, **facts: Any) -> None:
        self.seen.append(Seen(time.monotonic() - self.began_s, kind, facts))

    async def until(self, at_s: float) -> None:
        """One deed after the other: each ends when it is answered."""


@asynccontextmanager
async def page(folder: Path) -> AsyncIterator[Desk]:
    """The console of a city with two wards."""
    area_of = {"p1": "hac-thanh", "p2": "dong-quang"}
    async with console(folder, {"fire": {}}, areas=AREAS, area_of=area_of) as made, made.app.test_app():
        yield Desk(made)


@asynccontextmanager
async def rules(folder: Path) -> AsyncIterator[Desk]:
    """A lane whose rules are kept in a registry."""
    async with Followed(f"sqlite://{folder / 'registry.db'}", folder) as followed:
        yield Desk(followed)


def burns() -> Deed:
    def do(desk: Desk) -> None:
        desk.incident = desk.at.fire.burn()

    return Deed("d1 in ward Hạc Thành sees smoke", do)


def asks(who: str, act: str) -> Deed:
    """A person's request; what it is answered with."""

    async def do(desk: Desk) -> None:
        made: Console = desk.at
        if who == "a stranger":
            client = made.app.test_client()
        else:
            client = await made.client(who.replace(" ", "-"), PEOPLE[who])
        form = {"minutes": "60", "reason": "thử"} if act == "disablements" else {}
        path = "/devices/d1/disablements" if act == "disablements" else f"/incidents/{desk.incident}/{act}"

        async def ask() -> Any:
            return await client.post(path, form=form, headers=OWN)

        response = await (once_known(ask) if who == MAY else ask())
        desk.note("answer", who=who, act=act, code=response.status_code)
        for intent in await made.registry.intents_after(0):
            if not any(one.kind == "intent" and one.facts["by"] == intent.by for one in desk.seen):
                desk.note("intent", by=intent.by, act=intent.kind)
        for entry in await made.registry.audit_entries():
            fact = {"by": entry.deed.by, "action": entry.deed.action, "subject": entry.deed.subject}
            if entry.deed.action == "denied" and not any(one.facts == fact for one in desk.seen):
                desk.note("audit", **fact)

    return Deed(f"{who} asks: {act}", do)


def denied(who: str, act: str, code: int) -> list[Step]:
    """Asked, and refused with this answer."""
    refused = sight("answer", f"{who}, {act}: refused, {code}", who=who, act=act, code=code)
    return [at(0.0, asks(who, act)), want(30.0, refused)]


def audited(who: str, subject: str) -> Any:
    about = "the disablement" if subject == "d1" else "the incident"
    return want(30.0, sight("audit", f"{who} and {about}: in the audit", by=who, action="denied", subject=subject))


def judges(smoke: float) -> Deed:
    async def do(desk: Desk) -> None:
        desk.note("judged", smoke=smoke, incidents=await desk.at.incidents_at(smoke))

    return Deed(f"a detector tells {smoke:g} dB/m", do)


def judged(smoke: float, incidents: int) -> Any:
    return sight("judged", f"{incidents or 'no'} incident at {smoke:g} dB/m", smoke=smoke, incidents=incidents)


def saves_broken() -> Deed:
    async def do(desk: Desk) -> None:
        with suppress(ConfigError):
            await desk.at.edit(level("nothing"))
            desk.note("saved")
        desk.note("refused", version=desk.at.ruled.in_use["smoke-level"].version)

    return Deed("somebody saves a rule whose threshold is a word", do)


def edits() -> Deed:
    rule = level(0.18, when={**level(0.18)["when"], "clear": 0.1})
    return Deed("somebody saves a rule: fire from 0.18 dB/m", lambda desk: desk.at.edit(rule))


def breaks() -> Deed:
    """The row itself is broken, past every check."""

    async def do(desk: Desk) -> None:
        broken = json.dumps({**level(0.9), "shade": "unknown"})
        await sql(desk.at.url, f"UPDATE rule_document SET body = '{broken}', version = 2 WHERE key = 'smoke-level'")
        desk.at.clock.advance(WHOLE_S)
        await until(lambda: bool(desk.at.ruled.troubles), 5.0)
        (said,) = desk.at.ruled.state()["rule_troubles"]
        desk.note("flagged", first_stays="version 1 stays in use" in said)

    return Deed("the kept rule is broken in the database, past every check", do)


ROWS = [
    Row(17, "a broken rule is refused, and one that breaks later is flagged", rules, [
        at(0.0, judges(0.12)),
        want(30.0, judged(0.12, 0)),
        at(0.0, edits()),
        at(0.0, judges(0.14)),
        want(30.0, judged(0.14, 0)),
        at(0.0, saves_broken()),
        want(30.0, sight("refused", "refused; version 1 stays in use", version=1)),
        at(0.0, breaks()),
        want(30.0, sight("flagged", "flagged: version 1 stays in use", first_stays=True)),
        at(0.0, judges(0.19)),
        want(30.0, judged(0.19, 1)),
        never(sight("saved", "a broken rule is saved")),
    ], end_s=0.1),
    Row(19, "who may not acknowledge, reset or disable", page, [
        at(0.0, burns()),
        at(0.0, asks(MAY, "acknowledge")),
        want(30.0, sight("answer", "a dispatcher of this ward may", who=MAY, code=202)),
        want(30.0, sight("intent", "and that alone is handed to the lane", by="a-dispatcher-of-this-ward", act="acknowledge")),
        *denied("a stranger", "acknowledge", 401),
        *denied("a viewer", "acknowledge", 403),
        audited("a-viewer", "F"),
        *denied("a viewer", "reset", 403),
        *denied("a viewer", "disablements", 403),
        audited("a-viewer", "d1"),
        *denied("a dispatcher of another ward", "acknowledge", 404),
        audited("a-dispatcher-of-another-ward", "F"),
        *denied("a dispatcher of another ward", "reset", 404),
        never(sight("intent", "an act of a viewer", by="a-viewer")),
        never(sight("intent", "an act in a foreign ward", by="a-dispatcher-of-another-ward")),
    ], end_s=0.1),
]  # fmt: skip
