"""A receiver that asks for it is told of troubles: once when one begins, once when it is over, never before a fire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from iotcore.app.lesser_notices import of_work
from iotcore.app.receivers import troubles_of
from iotcore.clock import ManualClock, SystemClock
from iotcore.dispatch.sia_dc09 import Dc09Channel
from iotcore.dispatch.troubles import Troubles
from iotcore.journal.database import transaction
from iotcore.journal.journal import Journal
from iotcore.journal.quarantine import clear_fault, raise_fault
from iotcore.journal.records import Batch
from iotcore.journal.told import Work
from iotcore.registry.directory import Binding, Directory, Premises, Zone
from iotcore.settings import check
from iotcore.settings_receivers import Dc09Receiver
from simulators.arc_receiver import ArcReceiver, Fault
from tests.support.dc09 import channel, ignore, row
from tests.support.fire import notice, raise_
from tests.support.shipped import SPECS
from tests.support.until import until

SPEC = SPECS["iotcore-smoke-heat"]
TOWN = Directory(
    {"sd-1": Binding("sd-1", "Detector", SPEC, "fire", "sd-1", "active", "p1", "p1-z1")},
    {"p1": Premises("p1", "Chợ Vườn Hoa", "Lê Hoàn", 19.807, 105.776, "1001")},
    {"p1-z1": Zone("p1-z1", "p1", 5, "Tầng 1", "Gian hàng")},
)


class Site:
    """A journal in which faults come and go, and a receiver that is told of them."""

    def __init__(self, journal: Journal, told: Troubles, out: Dc09Channel) -> None:
        self.journal = journal
        self.told = told
        self.out = out

    def fault(self, device: str, reason: str, *, over: bool = False) -> None:
        with self.journal.lock, transaction(self.journal.connection) as connection:
            (clear_fault if over else raise_fault)(connection, device, reason, SystemClock().wall_ms())

    async def tell_all(self) -> None:
        while await self.told.tell("arc"):
            pass


@asynccontextmanager
async def site(
    folder: Path, arc: ArcReceiver, tells: tuple[str, ...] = ("fire", "trouble"), parallel: int = 4
) -> AsyncIterator[Site]:
    clock = SystemClock()
    document = {
        "kind": "sia_dc09", "name": "arc", "host": "127.0.0.1", "port": arc.port, "reply_timeout_s": 0.3, "tells": list(tells),
        "account": "ABC", "parallel": parallel,
    }  # fmt: skip
    settings = check({"data": str(folder), "receivers": [document]}, "x")
    (receiver,) = settings.receivers
    assert isinstance(receiver, Dc09Receiver)
    out = Dc09Channel(receiver, clock)
    journal = Journal(folder / "journal.db", clock, ["arc"])
    try:
        yield Site(journal, troubles_of(settings, {"arc": out}, journal, lambda: TOWN, clock), out)
    finally:
        await out.close()
        journal.close()


def heard(arc: ArcReceiver) -> list[tuple[str, str, int]]:
    return [(event.account, event.code, event.zone) for event in arc.received]


async def test_a_trouble_is_told_once_when_it_begins_and_once_when_it_is_over(tmp_path: Path) -> None:
    async with ArcReceiver() as arc, site(tmp_path, arc) as at:
        at.fault("sd-1", "offline")
        at.fault("path:arc", "path_down")
        for _ in range(3):
            await at.tell_all()
            at.fault("sd-1", "offline")  # once more, and nothing new
        assert heard(arc) == [("1001", "FT", 5), ("ABC", "YC", 0)]
        assert arc.received[0].text == "TROUBLE offline sd-1"
        at.fault("sd-1", "offline", over=True)
        await at.tell_all()
        await at.tell_all()
        assert heard(arc)[2:] == [("1001", "FJ", 5)]
        at.fault("sd-1", "offline")
        await at.tell_all()
        assert heard(arc)[3:] == [("1001", "FT", 5)]


async def test_what_is_not_acknowledged_is_told_again_with_its_number_and_then_no_more(tmp_path: Path) -> None:
    async with ArcReceiver(faults=[Fault.DUH]) as arc, site(tmp_path, arc) as at:
        at.fault("sd-1", "battery")
        assert not await at.told.tell("arc")
        assert not await at.told.tell("arc")  # not at once
        with at.journal.lock, transaction(at.journal.connection) as connection:
            connection.execute("UPDATE trouble_told SET until_ms = 0")
        await at.tell_all()
        await at.tell_all()
        assert [(event.code, event.number) for event in arc.received] == [("YT", 1)]
        assert len(arc.frames) == 2


async def test_two_processes_tell_it_once(tmp_path: Path) -> None:
    async with ArcReceiver(reply_s=0.05) as arc, site(tmp_path, arc) as at, site(tmp_path, arc) as other:
        at.fault("sd-1", "offline")
        await asyncio.gather(at.tell_all(), other.tell_all())
        assert len(arc.received) == 1


async def test_a_supervisory_signal_is_told_to_whom_asked_for_it_and_a_fire_is_none_of_this(tmp_path: Path) -> None:
    async with ArcReceiver() as arc, site(tmp_path, arc, ("fire", "supervisory")) as at:
        at.fault("sd-1", "offline")
        valve = msgspec.structs.replace(notice("sd-1", "p1", "valve"), severity="supervisory")
        at.journal.commit(Batch(raises=(raise_(1, of=valve), raise_(2, of=notice("sd-1", "p1")))))
        await at.tell_all()
        assert heard(arc) == [("1001", "FS", 5)]


async def test_who_asked_for_fires_alone_is_told_of_nothing_else(tmp_path: Path) -> None:
    async with ArcReceiver() as arc, site(tmp_path, arc, ("fire",)) as at:
        at.fault("sd-1", "offline")
        running = asyncio.create_task(at.told.run())
        await asyncio.sleep(0.1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert heard(arc) == []


async def test_a_fire_does_not_wait_for_a_trouble_where_one_frame_is_wanted_at_a_time(tmp_path: Path) -> None:
    async with ArcReceiver(faults=[Fault.SILENCE]) as arc, site(tmp_path, arc, parallel=1) as at:
        at.fault("sd-1", "offline")
        telling = asyncio.create_task(at.told.tell("arc"))
        await until(lambda: len(arc.frames) == 1)
        began_s = asyncio.get_running_loop().time()
        assert await at.out.send(row(9), ignore) == "ACK 0009"
        assert asyncio.get_running_loop().time() - began_s < 0.2  # the trouble's own wait would be 0.3 s
        assert not await telling


async def test_link_tests_and_troubles_leave_a_receiver_alone_while_its_only_slot_is_taken() -> None:
    async with ArcReceiver(reply_s=0.1) as arc, channel(arc.port, parallel=1) as out:
        sending = asyncio.create_task(out.send(row(7), ignore))
        await until(lambda: len(arc.frames) == 1)
        assert not await out.supervise()
        assert not await out.aside(row(8))
        assert await sending == "ACK 0007"
        assert await out.supervise()
    assert len(arc.frames) == 2


def test_of_a_device_that_is_registered_no_more_nothing_is_said() -> None:
    at_ms = ManualClock().wall_ms()
    assert of_work(Work("arc", "gone", "offline", "trouble", at_ms, "restore", 1), TOWN, "ABC") is None
