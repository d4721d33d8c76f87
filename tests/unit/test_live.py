"""Fan-out: differences only, resume from where a browser was, and the slow ones are cut off."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from iotcore.clock import ManualClock
from iotcore.web.live import HISTORY_EVENTS, QUEUE_EVENTS, SUBSCRIBER_LIMIT, Event, Live, Subscriber
from iotcore.web.view import Shown, View


@dataclass
class HandMade:
    """A view that a test fills by hand."""

    fires: list[Shown] = field(default_factory=list)
    things: list[Shown] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=dict)
    asked: int = 0
    sees: bool = True

    def changed(self) -> bool:
        return True

    def incidents(self) -> list[Shown]:
        return list(self.fires)

    def devices(self) -> list[Shown]:
        self.asked += 1
        return list(self.things)

    def device(self, name: str) -> Shown | None:
        return next((thing for thing in self.things if thing["id"] == name), None)

    def paths(self) -> list[Shown]:
        return []

    def refused(self) -> dict[str, int]:
        return dict(self.refusals)

    def readable(self) -> dict[str, bool]:
        return {"journal": self.sees, "telemetry": True}


def live_over(view: View) -> tuple[Live, ManualClock]:
    clock = ManualClock()
    return Live(view, clock), clock


async def following(live: Live, after: str = "") -> tuple[Subscriber, list[Event] | None]:
    taken = live.subscribe(after)
    assert taken is not None
    return taken


async def test_only_what_differs_is_told() -> None:
    view = HandMade(things=[{"id": "a", "n": 1}, {"id": "b", "n": 1}])
    live, _ = live_over(view)
    await live.poll()
    subscriber, missed = await following(live, live.cursor)
    assert missed == []
    view.things = [{"id": "a", "n": 2}]
    await live.poll()
    event = await subscriber.next()
    assert event is not None
    assert (event.kind, event.changed, event.gone) == ("devices", ({"id": "a", "n": 2},), ("b",))


async def test_a_browser_that_returns_gets_what_it_missed_and_nothing_twice() -> None:
    view = HandMade()
    live, _ = live_over(view)
    await live.poll()
    cursor = live.cursor
    for n in range(3):
        view.fires = [{"id": "F1", "n": n}]
        await live.poll()
    _, missed = await following(live, cursor)
    assert missed is not None
    assert [event.changed[0]["n"] for event in missed] == [0, 1, 2]
    _, missed = await following(live, live.cursor)
    assert missed == []


async def test_a_browser_from_before_a_restart_or_too_long_ago_gets_everything() -> None:
    view = HandMade()
    live, _ = live_over(view)
    await live.poll()
    first = live.cursor
    for n in range(HISTORY_EVENTS + 1):
        view.fires = [{"id": "F1", "n": n}]
        await live.poll()
    for after in ("", "garbage", "0-x", "ffffffff-3", first, f"{live.epoch}-99999"):
        _, missed = await following(live, after)
        assert missed is None, after


async def test_a_slow_browser_is_cut_off_and_counted_and_the_others_go_on() -> None:
    view = HandMade()
    live, _ = live_over(view)
    await live.poll()
    slow, _ = await following(live)
    quick, _ = await following(live)
    for n in range(QUEUE_EVENTS + 5):
        view.fires = [{"id": "F1", "n": n}]
        await live.poll()
        assert await quick.next() is not None
    assert (live.dropped, live.watching) == (1, 1)
    for _ in range(QUEUE_EVENTS):
        assert await slow.next() is not None
    assert await slow.next() is None


async def test_the_number_of_browsers_is_bounded() -> None:
    live, _ = live_over(HandMade())
    taken = [live.subscribe("") for _ in range(SUBSCRIBER_LIMIT)]
    assert None not in taken
    assert live.subscribe("") is None
    assert taken[0] is not None
    live.unsubscribe(taken[0][0])
    assert live.subscribe("") is not None


async def test_a_heartbeat_comes_every_five_seconds_even_when_nothing_happens() -> None:
    live, clock = live_over(HandMade())
    await live.poll()
    subscriber, _ = await following(live)
    running = asyncio.create_task(live.run())
    await asyncio.sleep(0.05)
    clock.advance(5.0)
    event = await asyncio.wait_for(subscriber.next(), 2.0)
    running.cancel()
    assert event is not None
    assert event.kind == "beat"


async def test_reading_a_large_city_leaves_most_of_the_time_to_others() -> None:
    view = HandMade(things=[{"id": "a"}])
    live, clock = live_over(view)

    class Slow(HandMade):
        def devices(self) -> list[Shown]:
            clock.advance(0.5)
            return super().devices()

    slow = Slow(things=[{"id": "a"}])
    live = Live(slow, clock)
    await live.poll()
    for _ in range(9):
        clock.advance(0.2)
        await live.poll()
    assert slow.asked == 1
    clock.advance(0.3)
    await live.poll()
    assert slow.asked == 2


async def test_a_fire_stays_on_the_page_while_the_journal_cannot_be_read() -> None:
    view = HandMade(fires=[{"id": "F1"}])
    live, _ = live_over(view)
    await live.poll()
    view.fires, view.sees = [], False
    await live.poll()
    assert list(live.incidents) == ["F1"]
    assert live.status["status"]["readable"] == {"journal": False, "telemetry": True}
    view.sees = True
    await live.poll()
    assert live.incidents == {}


async def test_a_process_that_stops_beating_is_shown_as_stopped() -> None:
    beating: dict[str, dict[str, object]] = {"fire": {}, "telemetry": {}}
    live = Live(HandMade(), ManualClock(), lambda: beating)
    await live.poll()
    del beating["telemetry"]
    await live.poll()
    assert live.status["status"]["processes"] == {"fire": True, "telemetry": False}
