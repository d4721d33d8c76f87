"""A receiving centre is told what is out of service or in walk test: once when it begins, once when it is over, whoever died."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from iotcore.app.receivers import told_of_all, troubles_of
from iotcore.dispatch.sia_dc09 import Dc09Channel
from iotcore.registry.directory import Target
from iotcore.registry.disablements import MINUTE_MS
from iotcore.registry.response import Response
from iotcore.registry.responses import Responses
from iotcore.settings import check
from iotcore.settings_receivers import Dc09Receiver
from simulators.arc_receiver import ArcReceiver
from tests.support.outage_site import SMOKE, Site, outage_site
from tests.support.shipped import SPECS


@asynccontextmanager
async def channel(settings: Any, name: str, site: Site) -> AsyncIterator[Dc09Channel]:
    receiver = next(one for one in settings.receivers if one.name == name)
    assert isinstance(receiver, Dc09Receiver)
    out = Dc09Channel(receiver, site.clock)
    try:
        yield out
    finally:
        await out.close()


class Told:
    """A site, its receiving centre, and the telling by each of its fire processes."""

    def __init__(self, site: Site, arc: ArcReceiver, settings: Any, channels: dict[str, Dc09Channel]) -> None:
        self.site, self.arc, self._settings, self._channels = site, arc, settings, channels

    async def look(self) -> list[tuple[str, str, int]]:
        """Every process looks after what is disabled, and tells; all that the centre has heard since the beginning."""
        await self.site.look()
        for one in self.site.replicas:
            telling = troubles_of(
                self._settings, self._channels, one.journal, lambda: self.site.follower.directory, self.site.clock
            )
            for name in telling.listeners:
                while await telling.tell(name):
                    pass
        return [(event.account, event.code, event.zone) for event in self.arc.received]

    async def disable(self, target: Target, minutes: int = 10) -> str:
        return (await self.site.out.disable(target, minutes * MINUTE_MS, "bảo trì", "lan", SPECS)).id


@asynccontextmanager
async def told(folder: Path, *, beside_it: bool = False, **changes: Any) -> AsyncIterator[Told]:
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(outage_site(folder))
        arc = await stack.enter_async_context(ArcReceiver(now_s=lambda: site.clock.wall_ms() / 1000.0))
        document = {"kind": "sia_dc09", "name": "arc", "host": "127.0.0.1", "port": arc.port, "reply_timeout_s": 2.0, **changes}
        beside = {**document, "name": "arc-2", "alternate": ""}
        receivers = [document, beside] if beside_it else [document]
        settings = check({"data": str(folder), "receivers": receivers}, "x")
        channels = {one.name: await stack.enter_async_context(channel(settings, one.name, site)) for one in settings.receivers}
        site.receivers = told_of_all(settings)
        site.start()
        yield Told(site, arc, settings, channels)


@pytest.mark.parametrize(
    ("target", "zone", "words"),
    [
        (Target("point", "d1", "alarm"), 3, "DISABLED point d1/alarm"),
        (Target("device", "d1"), 3, "DISABLED device d1"),
        (Target("zone", "p1-z1"), 3, "DISABLED zone p1-z1"),
        (Target("premises", "p1"), 0, "DISABLED premises p1"),
    ],
    ids=lambda one: one.kind if isinstance(one, Target) else "",
)
async def test_a_disablement_is_told_as_a_bypass_and_its_end_as_the_unbypass_each_once(
    tmp_path: Path, target: Target, zone: int, words: str
) -> None:
    async with told(tmp_path) as at:
        name = await at.disable(target)
        assert await at.look() == await at.look() == [("A001", "FB", zone)]
        assert at.arc.received[0].text == f"{name} {words}"
        assert at.arc.received[0].site.startswith("Truong Tieu hoc Le Loi")
        assert await at.site.out.lift(name, "lan")
        assert await at.look() == await at.look() == [("A001", "FB", zone), ("A001", "FU", zone)]
        assert at.arc.received[1].text == f"{name} {words.replace('DISABLED', 'ENABLED')}"


async def test_one_that_ends_by_its_time_is_told_and_the_fire_that_still_burns_is_not_behind_it(tmp_path: Path) -> None:
    async with told(tmp_path) as at:
        await at.disable(Target("device", "d1"))
        await at.look()
        await at.site.say("d1", SMOKE)
        at.site.clock.advance(600.0)
        await at.site.look()
        assert [event for _, event in at.site.told()] == ["alarm"], "in the outbox before anything is told beside it"
        assert [code for _, code, _ in await at.look()] == ["FB", "FU"]


async def test_a_walk_test_is_told_when_it_begins_and_when_it_is_over(tmp_path: Path) -> None:
    async with told(tmp_path) as at:
        walk = await at.site.walks.start("p1", "p1-z1", 30 * MINUTE_MS, "lan")
        assert await at.look() == [("A001", "FI", 3)]
        assert await at.site.walks.end(walk.id, "lan")
        assert await at.look() == [("A001", "FI", 3), ("A001", "FK", 3)]
        assert [event.text for event in at.arc.received] == [
            f"{walk.id} WALK TEST zone p1-z1", f"{walk.id} WALK TEST OVER zone p1-z1"
        ]  # fmt: skip


async def test_contact_id_says_571_and_607(tmp_path: Path) -> None:
    async with told(tmp_path, format="ADM-CID") as at:
        name = await at.disable(Target("device", "d2"))
        await at.look()
        await at.site.out.lift(name, "lan")
        walk = await at.site.walks.start("p1", "", 30 * MINUTE_MS, "lan")
        await at.look()
        await at.site.walks.end(walk.id, "lan")
        assert [code for _, code, _ in await at.look()] == ["1571", "3571", "1607", "3607"]


async def test_an_end_that_no_process_saw_is_told_after_the_restart(tmp_path: Path) -> None:
    async with told(tmp_path) as at:
        lifted, expired = await at.disable(Target("device", "d1"), 60), await at.disable(Target("zone", "p2-z1"), 10)
        assert [code for _, code, _ in await at.look()] == ["FB", "FB"]
        at.site.stop()
        await at.site.out.lift(lifted, "lan")
        at.site.clock.advance(600.0)
        await at.site.out.end_overdue()
        await at.site.follower.refresh()
        at.site.start()
        assert [code for _, code, _ in await at.look()] == ["FB", "FB", "FU", "FU"]
        assert {event.text.split()[0] for event in at.arc.received if event.code == "FU"} == {lifted, expired}


async def test_two_processes_tell_it_once_and_one_that_has_not_read_of_it_ends_nothing(tmp_path: Path) -> None:
    async with told(tmp_path) as at:
        at.site.start(2)
        late = at.site.follower.directory
        name = await at.disable(Target("device", "d1"))
        assert [code for _, code, _ in await at.look()] == ["FB"]
        newer, at.site.follower.directory = at.site.follower.directory, late
        for one in at.site.replicas:
            await one.outages.look()  # knows of no disablement yet, and the registry says that it stands
        at.site.follower.directory = newer
        assert [code for _, code, _ in await at.look()] == ["FB"]
        await at.site.out.lift(name, "lan")
        assert [code for _, code, _ in await at.look()] == ["FB", "FU"]


async def test_what_is_not_acknowledged_is_told_again_under_the_same_number(tmp_path: Path) -> None:
    async with told(tmp_path, reply_timeout_s=0.05) as at:
        at.arc.silent = True
        name = await at.disable(Target("device", "d1"))
        assert await at.look() == []
        await at.site.out.lift(name, "lan")
        await at.look()
        at.arc.silent = False
        at.site.clock.advance(60.0)
        assert [code for _, code, _ in await at.look()] == ["FB", "FU"], "the centre sees both, in their order"
        assert b'"SIA-DCS"0001' in at.arc.frames[0]
        assert at.arc.received[0].number == 1


async def test_an_ask_that_nobody_has_confirmed_is_told_to_nobody(tmp_path: Path) -> None:
    async with told(tmp_path) as at:
        await at.site.out.disable(Target("premises", "p1"), 10 * MINUTE_MS, "bảo trì", "lan", SPECS, second_person=True)
        assert await at.look() == []


async def test_a_receiver_that_wants_fires_alone_is_not_told(tmp_path: Path) -> None:
    async with told(tmp_path, tells=["fire"]) as at:
        await at.disable(Target("device", "d1"))
        assert await at.look() == []


async def test_who_is_not_among_the_receivers_of_the_premises_is_not_told(tmp_path: Path) -> None:
    async with told(tmp_path, beside_it=True) as at:
        for premises, receivers in (("p1", ("arc-2",)), ("p2", ("gone",))):
            plan = Response(profile="immediate", receivers=receivers)
            await Responses(at.site.registry.database).save(premises, plan, "lan")
        await at.disable(Target("device", "d1"))
        await at.disable(Target("device", "d2"))
        assert sorted(await at.look()) == [("A001", "FB", 3), ("A002", "FB", 1), ("A002", "FB", 1)]
        by_arc = "SELECT count(*) FROM trouble_told WHERE channel = 'arc'"
        assert at.site.rows(by_arc) == [(1,)], "of p1 it is not told, and a plan whose receivers are gone tells all"


async def test_an_alternate_path_hears_of_no_disablement(tmp_path: Path) -> None:
    async with told(tmp_path, beside_it=True, alternate="arc-2") as at:
        await at.disable(Target("device", "d1"))
        assert await at.look() == [("A001", "FB", 3)]
