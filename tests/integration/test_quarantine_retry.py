"""A person looks at the quarantine, mends what was wrong, and tries again: through the registry, on the lane's own road."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from iotcore import cli
from iotcore.commands.quarantine import Chosen, Outcome, ask, listed, shown
from iotcore.errors import StartError
from iotcore.journal.quarantine import Wanted
from iotcore.journal.retry import Answer, Verb
from iotcore.journal.throttle import Throttle
from iotcore.process.follow import follow_intents
from iotcore.registry.directory import Directory
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import Settings
from iotcore.specs.model import Point
from iotcore.telemetry.requests import carried_out
from iotcore.wire.arrival import Refusal
from tests.integration.test_fire_throttle import Lane
from tests.support.shipped import SPECS
from tests.support.telemetry_bench import Bench, until


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=str(tmp_path))


@pytest.fixture
def bench(tmp_path: Path, settings: Settings) -> Bench:
    return Bench(tmp_path, settings)


@pytest.fixture
async def registry(settings: Settings) -> AsyncIterator[Registry]:
    async with await open_registry(settings.registry_url) as opened:
        yield opened


@asynccontextmanager
async def running(bench: Bench, registry: Registry) -> AsyncIterator[None]:
    """The lane, and what it follows."""
    async with bench.running() as lane:
        task = asyncio.create_task(follow_intents(registry, await bench.spool.answered(), carried_out(lane, bench.spool)))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def with_device(bench: Bench, name: str, **changes: Any) -> None:
    """Somebody changed the registry."""
    devices = dict(bench.directory.devices)
    devices[name] = replace(devices[name], **changes)
    bench.directory = Directory(devices)


async def one(settings: Settings, verb: Verb, chosen: Chosen) -> Outcome:
    (outcome,) = await ask(settings, verb, chosen, "duty officer")
    return outcome


async def test_a_reading_of_a_suspended_device_is_stored_as_old_as_it_is_once_the_device_may_speak(
    bench: Bench, registry: Registry, settings: Settings
) -> None:
    async with running(bench, registry):
        said = bench.say("a9", 1, {"pm10": 12.5}, ts=None)
        await until(lambda: said in bench.field.acknowledged)
        outcome = await one(settings, "retry", Chosen(device="a9"))
        assert (outcome.answer.removed, outcome.answer.left[0].reason) == (0, "not_accepted:suspended")
        with_device(bench, "a9", state="active")
        outcome = await one(settings, "retry", Chosen(device="a9"))
        assert (outcome.answer.removed, outcome.answer.stored, outcome.answer.left) == (1, 1, [])
        await until(bench.drained)
        with bench.reader() as reader:
            ((at_ms, value),) = [(s.at_ms, s.value) for s in reader.samples("a9", "pm10", 0.0, 1e14)]
        assert value == 12.5
        assert at_ms == pytest.approx(said.received_ms, abs=2.0)
        assert bench.rows("SELECT count(*) FROM quarantine") == [(0,)]
        assert bench.rows("SELECT reason, count FROM quarantine_count") == [("not_accepted:suspended", 1)]
    assert [(e.deed.action, e.deed.by) for e in await registry.audit_entries()] == [("quarantine.retry", "duty officer")] * 2


async def test_a_reading_that_came_again_meanwhile_is_not_stored_twice(
    bench: Bench, registry: Registry, settings: Settings
) -> None:
    async with running(bench, registry):
        bench.say("a9", 1, {"pm10": 1.0})
        await until(lambda: len(bench.field.acknowledged) == 1)
        with_device(bench, "a9", state="active")
        bench.say("a9", 1, {"pm10": 1.0})
        await until(lambda: bench.receipted("a9") == 1)
        outcome = await one(settings, "retry", Chosen(everything=True))
        assert (outcome.answer.removed, outcome.answer.stored, outcome.answer.repeats) == (1, 0, 1)


async def test_what_counts_as_handled_is_stored_by_a_retry_and_by_nothing_else(
    bench: Bench, registry: Registry, settings: Settings
) -> None:
    spec = SPECS["vaisala-aqt530"]
    batch = [{"boot": "b1", "seq": n, "values": {"pm10": float(n)}} for n in range(1, 502)]
    async with running(bench, registry):
        bench.send("a1", batch)
        await until(lambda: bench.receipted("a1") == 501)
        assert bench.rows("SELECT reason FROM quarantine") == [("batch_too_long",)]
        bench.send("a1", batch)
        await until(lambda: len(bench.field.acknowledged) == 2)
        assert [json.loads(text) for (text,) in bench.rows("SELECT identities FROM quarantine ORDER BY id")][1] == []
        unknown = bench.say("a2", 1, {"pm10": 1.0, "new": 3.0})
        await until(lambda: unknown in bench.field.acknowledged)
        with_device(bench, "a2", spec=structs.replace(spec, points={**spec.points, "new": Point(unit="%")}))
        outcome = await one(settings, "retry", Chosen(reason="unknown_point"))
        assert (outcome.answer.removed, outcome.answer.stored) == (1, 1)
        await until(bench.drained)
        with bench.reader() as reader:
            assert [s.value for s in reader.samples("a2", "new", 0.0, 1e14)] == [3.0]
            assert [s.value for s in reader.samples("a2", "pm10", 0.0, 1e14)] == [1.0]
    assert bench.rows("SELECT count(*) FROM quarantine") == [(2,)]


async def test_a_line_that_the_store_refused_goes_back_into_the_spool(
    bench: Bench, registry: Registry, settings: Settings
) -> None:
    async with running(bench, registry):
        line = b'["a1",1795312800000000000,false,[["pm10",7.0,0]]]'
        await bench.spool.done([], [Refusal("store_rejected", "field type conflict", "row1", "", line)])
        outcome = await one(settings, "retry", Chosen(reason="store_rejected"))
        assert (outcome.answer.removed, outcome.answer.stored) == (1, 1)
        await until(bench.drained)
        with bench.reader() as reader:
            assert [s.value for s in reader.samples("a1", "pm10", 0.0, 1e14)] == [7.0]


async def test_drop_removes_only_what_the_person_has_seen_and_leaves_the_counts(
    bench: Bench, registry: Registry, settings: Settings
) -> None:
    async with running(bench, registry):
        bench.send("a1", b"{")
        bench.send("a2", b"{")
        await until(lambda: len(bench.field.acknowledged) == 2)
        assert (await one(settings, "drop", Chosen(ids=(("telemetry", 2),)))).answer.removed == 1
        assert bench.rows("SELECT device FROM quarantine") == [("a1",)]
        assert (await one(settings, "drop", Chosen(everything=True))).answer.removed == 1
        assert bench.rows("SELECT reason, count FROM quarantine_count") == [("not_json", 2)]


async def test_a_lane_that_does_not_answer_is_named_and_the_request_stays(
    bench: Bench, registry: Registry, settings: Settings
) -> None:
    async with bench.running() as lane:
        bench.send("a1", b"{")
        await until(lambda: len(bench.field.acknowledged) == 1)
        with pytest.raises(StartError, match=r"The telemetry process has not answered within 0 s.*iotcore doctor"):
            await ask(settings, "drop", Chosen(everything=True), "duty officer", limit_s=0.3)
        (intent,) = await registry.intents_after(await bench.spool.answered())
        await carried_out(lane, bench.spool)(intent)
        assert bench.rows("SELECT count(*) FROM quarantine") == [(0,)]


async def test_asking_for_nothing_in_particular_is_refused(settings: Settings, registry: Registry) -> None:
    with pytest.raises(StartError, match=r"retry which rows.*--all"):
        await ask(settings, "retry", Chosen(), "duty officer")
    with pytest.raises(StartError, match="No such row"):
        await ask(settings, "retry", Chosen(everything=True), "duty officer")
    assert await registry.intents_after(0) == []


@pytest.mark.parametrize(("held_s", "state", "incidents"), [(3_600.0, "historical", 0), (60.0, "active", 1)])
async def test_a_retried_fire_reading_is_backlog_of_its_true_age(
    tmp_path: Path, held_s: float, state: str, incidents: int
) -> None:
    fire = Lane(tmp_path, Throttle())
    try:
        allowed = fire.directory
        fire.directory = Directory(
            {name: replace(one, state="suspended") for name, one in allowed.devices.items()}, allowed.premises
        )
        await fire.turn([fire.arrival({"alarm": True}, 1.0, ts=None)])
        assert fire.rows("SELECT reason FROM quarantine") == [("not_accepted:suspended",)]
        fire.directory = allowed
        fire.clock.advance(held_s)
        answer = Answer()
        await fire.lane.retry(fire.journal.quarantined(Wanted(), 10, 0), answer)
        assert (answer.removed, answer.stored, answer.alarms) == (1, 1, ["sd-1: detector-alarm"])
        assert fire.rows("SELECT state FROM alarm") == [(state,)]
        assert len(fire.opened) == incidents
        assert [json.loads(text)["delayed"] for (text,) in fire.rows("SELECT notice FROM incident")] == [True] * incidents
        assert fire.rows("SELECT count(*) FROM quarantine") == [(0,)]
    finally:
        fire.journal.close()


def iotcore(folder: Path, *arguments: str) -> int:
    """The command, with a settings file for `folder`."""
    config = folder / "iotcore.toml"
    config.write_text(f'data = "{folder}"\n')
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments, "--config", str(config)])
    return ended.value.code if isinstance(ended.value.code, int) else 1


async def test_the_command_lists_shows_where_it_went_wrong_and_says_what_a_retry_would_do(
    bench: Bench, registry: Registry, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with bench.running():
        bench.send("a1", b'{"boot": "b1", "seq": 1, "values": {"pm10": oops}}')
        bench.send("a2", b"{")
        await until(lambda: len(bench.field.acknowledged) == 2)
    assert [(row["id"], row["device"]) for row in listed(settings, Chosen(), 50)] == [
        ("telemetry:2", "a2"),
        ("telemetry:1", "a1"),
    ]
    told = "\n".join(shown(settings, ("telemetry", 1), whole=False))
    assert "▶oops" in told
    assert "6f 6f 70 73" in told
    assert await asyncio.to_thread(iotcore, tmp_path, "quarantine", "list", "--device", "a1", "--since", "1h", "-o", "json") == 0
    assert [row["reason"] for row in json.loads(capsys.readouterr().out)] == ["not_json"]
    assert await asyncio.to_thread(iotcore, tmp_path, "quarantine", "show", "telemetry:1") == 0
    assert "not_json" in capsys.readouterr().out
    assert await asyncio.to_thread(iotcore, tmp_path, "quarantine", "drop", "--device", "a1", "--dry-run") == 0
    assert capsys.readouterr().out.endswith("1 would be dropped\n")
    assert await asyncio.to_thread(iotcore, tmp_path, "quarantine", "show", "fire:7") == 1
    assert await registry.intents_after(0) == []


async def test_a_terminal_obeys_no_payload(bench: Bench, settings: Settings) -> None:
    async with bench.running():
        bench.send("a1", b"\x1b[2J\x07{")
        await until(lambda: len(bench.field.acknowledged) == 1)
    assert not any("\x1b" in line or "\x07" in line for line in shown(settings, ("telemetry", 1), whole=True))
