"""The alternate path: the real listener over real TLS, the real lane, rules and journal behind it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers import https_alarm
from iotcore.errors import DeliveryError
from iotcore.provision import alternate
from iotcore.provision.ca import Anchor
from iotcore.provision.revoke import Reason
from simulators.https_alarm import Answer, post
from tests.support.alternate import Table
from tests.support.until import until

QUIET = {"smoke": 0.01, "temperature": 24.0, "alarm": False}
FIRE = {**QUIET, "alarm": True}


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    made = Table(tmp_path)
    yield made
    made.journal.close()


async def test_a_device_whose_certificate_has_run_out_raises_its_alarm_and_nothing_else_is_taken(table: Table) -> None:
    at, _ = table.device("sd-1", expired=True)
    async with table.listening() as listener:
        plain = await post(at(listener.port), "sd-1", table.message(1, QUIET))
        assert (plain.status, plain.reason) == (403, "expired")
        assert table.rows("SELECT count(*) FROM reading") == [(0,)]
        fire = await post(at(listener.port), "sd-1", table.message(2, FIRE), kind="events")
        assert (fire.status, fire.taken) == (200, 1)
        assert len(table.opened) == 1
        assert table.rows("SELECT device, seq FROM reading") == [("sd-1", 2)]
        goes_on = await post(at(listener.port), "sd-1", table.message(3, FIRE))
        assert goes_on.taken == 1, "while its alarm holds, it tells how the fire goes on"
        over = await post(at(listener.port), "sd-1", table.message(4, QUIET))
        assert over.reason == "expired"
        again = await post(at(listener.port), "sd-1", table.message(2, FIRE), kind="events")
        assert (again.status, again.taken, len(table.opened)) == (200, 1, 1)
    assert table.rows("SELECT reason, count FROM quarantine_count") == [("expired", 2)]
    assert ("sd-1", "refused:expired") in table.rows("SELECT device, reason FROM fault")


async def test_what_was_not_taken_may_come_as_backlog_once_the_device_is_let_in_again(table: Table) -> None:
    (old, _), (new, _) = table.device("sd-1", expired=True), table.device("sd-1")
    async with table.listening() as listener:
        assert (await post(old(listener.port), "sd-1", table.message(1, QUIET))).reason == "expired"
        late = table.message(1, QUIET, backlog=True, age_ms=60_000)
        answer = await post(new(listener.port), "sd-1", [late, table.message(2, QUIET)])
    assert (answer.taken, answer.up_to, answer.refused) == (2, {table.boot: 2}, [])
    assert table.rows("SELECT seq FROM reading ORDER BY seq") == [(1,), (2,)]


async def test_an_alarm_made_of_several_readings_is_raised_though_none_of_them_is_one_by_itself(table: Table) -> None:
    at, _ = table.device("sd-1", expired=True)
    async with table.listening() as listener:
        first = await post(at(listener.port), "sd-1", table.message(1, {"smoke": 0.6}))
        assert first.reason == "expired", "one reading decides nothing: smoke-level is a mean of two"
        same = await post(at(listener.port), "sd-1", table.message(1, {"smoke": 0.6}))
        assert same.reason == "expired", "the same reading twice is not two"
        await table.lane.turn([table.arrival("sd-1", table.message(1, {"smoke": 0.6}))])
        assert table.opened == [], "nor is it by both paths"
        second = await post(at(listener.port), "sd-1", table.message(2, {"smoke": 0.6}))
        assert second.taken == 1
        assert len(table.opened) == 1


async def test_a_trouble_that_was_not_taken_is_raised_once_the_certificate_is_renewed(table: Table) -> None:
    low = {**QUIET, "battery": 3.0}
    (old, _), (new, _) = table.device("sd-1", expired=True), table.device("sd-1")
    async with table.listening() as listener:
        for number in (1, 2):  # a mean of two
            assert (await post(old(listener.port), "sd-1", table.message(number, low))).reason == "expired"
        assert table.rows("SELECT rule FROM alarm") == []
        assert (await post(new(listener.port), "sd-1", table.message(3, low))).taken == 1
    assert table.rows("SELECT rule FROM alarm") == [("battery-low",)]


async def test_the_settings_may_refuse_an_expired_certificate_altogether(table: Table) -> None:
    at, _ = table.device("sd-1", expired=True)
    async with table.listening(expired="refuse") as listener:
        answer = await post(at(listener.port), "sd-1", table.message(1, FIRE))
    assert (answer.status, answer.reason, table.opened) == (403, "expired", [])


async def test_a_valid_certificate_brings_every_reading_and_gets_the_receipt_of_the_wire(table: Table) -> None:
    at, _ = table.device("sd-1")
    async with table.listening() as listener:
        answer = await post(at(listener.port), "sd-1", [table.message(n, QUIET) for n in range(1, 501)])
        assert (answer.taken, answer.up_to) == (500, {table.boot: 500})
        hole = await post(at(listener.port), "sd-1", table.message(502, QUIET))
    assert (hole.taken, hole.up_to) == (1, {table.boot: 500}), "a receipt never passes what is missing"
    assert table.broker.acknowledged == [], "the broker is told of nothing that it did not bring"


async def test_the_same_reading_by_both_paths_is_one(table: Table) -> None:
    at, _ = table.device("sd-1")
    message = table.message(1, FIRE)
    arrival = table.arrival("sd-1", message)
    async with table.listening() as listener:
        answers = await asyncio.gather(
            table.lane.turn([arrival]), *(post(at(listener.port), "sd-1", message) for _ in range(5)), table.lane.turn([arrival])
        )
    assert [one.taken for one in answers if isinstance(one, Answer)] == [1] * 5
    assert len(table.opened) == 1
    assert table.rows("SELECT count(*) FROM reading") == [(1,)]
    assert table.broker.acknowledged == [arrival, arrival]


@pytest.mark.parametrize("expired", [False, True])
async def test_a_revoked_or_held_certificate_is_refused_as_soon_as_the_list_says_so(
    table: Table, monkeypatch: pytest.MonkeyPatch, *, expired: bool
) -> None:
    monkeypatch.setattr(https_alarm, "LOOK_S", 0.05)
    at, issued = table.device("sd-1", expired=expired)
    async with table.listening() as listener:
        assert (await post(at(listener.port), "sd-1", table.message(1, FIRE))).status == 200
        for reason in (Reason.certificate_hold, Reason.key_compromise):
            table.authority.revoke(Anchor.FIRE, issued.serial, reason)
            alternate.refresh(table.authority, table.given)
            await until(lambda: issued.serial in listener._revoked, 5.0)
            answer = await post(at(listener.port), "sd-1", table.message(2, FIRE))
            assert (answer.status, answer.reason) == (403, "revoked")
            if reason is Reason.certificate_hold:
                table.authority.lift(Anchor.FIRE, issued.serial)
                alternate.refresh(table.authority, table.given)
                await until(lambda: issued.serial not in listener._revoked, 5.0)
                assert (await post(at(listener.port), "sd-1", table.message(1, FIRE))).status == 200


async def test_an_expired_certificate_that_has_left_the_list_is_known_to_the_registry(table: Table) -> None:
    at, issued = table.device("sd-1", expired=True)
    table.registry_says = {issued.serial}
    async with table.listening() as listener:
        assert (await post(at(listener.port), "sd-1", table.message(1, FIRE))).reason == "revoked"
        table.registry_says = None
        assert (await post(at(listener.port), "sd-1", table.message(1, FIRE))).taken == 1, "a registry that is down is no silence"


async def test_strangers_and_those_who_may_not_are_refused_with_a_reason(table: Table) -> None:
    (suspended, _), (own, _), (gateway, _) = (table.device(name, expired=True) for name in ("sd-9", "sd-1", "gw-1"))
    (field, _), (unknown, _) = table.device("sd-1", anchor=Anchor.FIELD), table.device("nobody")
    fire = table.message(1, FIRE)
    async with table.listening() as listener:
        port = listener.port
        assert (await post(suspended(port), "sd-9", fire)).reason == "not_accepted"
        assert (await post(own(port), "sd-2", fire)).reason == "wrong_publisher"
        assert (await post(unknown(port), "nobody", fire)).reason == "unknown_device"
        assert (await post(gateway(port), "gw-1", fire)).reason == "wrong_domain"
        for bad, reason in ((b"{not json", "not_json"), (b'{"v":1}', "schema"), (b"[]", "empty"), (b"x" * 65_537, "oversized")):
            assert (await post(own(port), "sd-1", bad)).reason == reason
        without = own(port)
        for endpoint in (field(port), type(without)(without.host, port, without.ca_file, Path(), Path())):
            with pytest.raises(DeliveryError):
                await post(endpoint, "sd-1", fire)
        assert table.opened == []
        assert (await post(gateway(port), "sd-2", fire)).taken == 1, "its registered parent speaks for it"


async def test_the_answer_comes_after_the_commit_or_says_to_come_again(table: Table) -> None:
    at, _ = table.device("sd-1", expired=True)
    other, _ = table.device("cp-1")
    said = [(at, "sd-1", table.message(1, FIRE)), *((other, "cp-1", table.message(n, {"pressed": True})) for n in (1, 2))]
    async with table.listening(answer_s=0.1, queue=1) as listener:
        with table.stuck():
            answers = await asyncio.gather(*(post(by(listener.port), name, message) for by, name, message in said))
            assert {one.status for one in answers} == {503}
            assert sorted(one.reason for one in answers) == ["busy", "late", "late"]
            assert {one.retry_s for one in answers} == {1.0}
            await until(lambda: "journal_stalled" in table.lane.state(), 5.0)
            stalled = await post(at(listener.port), "sd-1", table.message(1, FIRE))
            assert (stalled.status, stalled.reason, stalled.retry_s) == (503, "stalled", 1.0)
            assert table.opened == []
        await until(lambda: "journal_stalled" not in table.lane.state(), 10.0)
        again = [await post(by(listener.port), name, message) for by, name, message in said]
        assert [one.taken for one in again] == [1, 1, 1]
    assert len(table.rows("SELECT id FROM incident")) == 1
    assert table.rows("SELECT device, count(*) FROM reading GROUP BY device ORDER BY device") == [("cp-1", 2), ("sd-1", 1)]


async def test_a_name_that_posts_without_end_is_slowed_down_and_others_are_not(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(https_alarm, "PER_NAME_PER_S", 0.5)
    monkeypatch.setattr(https_alarm, "PER_NAME_BURST", 2)
    (at, _), (other, _) = table.device("sd-1"), table.device("cp-1")
    async with table.listening() as listener:
        answers = [await post(at(listener.port), "sd-1", table.message(n, QUIET)) for n in (1, 2, 3)]
        assert [one.status for one in answers] == [200, 200, 429]
        assert 1.0 <= answers[-1].retry_s <= 2.0
        assert (await post(other(listener.port), "cp-1", table.message(1, {"pressed": True}))).taken == 1


async def test_one_connection_too_many_is_closed(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https_alarm, "MAX_CONNECTIONS", 1)
    at, _ = table.device("sd-1")
    async with table.listening() as listener:
        endpoint = at(listener.port)
        _, first = await asyncio.open_connection("127.0.0.1", listener.port, ssl=endpoint.tls(), server_hostname="localhost")
        await asyncio.sleep(0.1)
        with pytest.raises(DeliveryError):
            await post(endpoint, "sd-1", table.message(1, FIRE))
        first.close()
        await asyncio.sleep(0.1)
        assert (await post(endpoint, "sd-1", table.message(1, FIRE))).taken == 1


async def test_connections_that_say_nothing_keep_neither_a_device_nor_the_lane_out(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(https_alarm, "HANDSHAKE_S", 0.5)
    at, _ = table.device("sd-1", expired=True)
    async with table.listening() as listener:
        silent = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(100)]
        await table.lane.turn([table.arrival("cp-1", table.message(1, {"pressed": True}))])
        assert (await post(at(listener.port), "sd-1", table.message(1, FIRE))).taken == 1
        ended = await asyncio.wait_for(asyncio.gather(*(reader.read() for reader, _ in silent)), 10.0)
        assert ended == [b""] * 100, "each is closed when its handshake has not come in time"
        for _, writer in silent:
            writer.close()


async def test_a_taken_port_is_said_and_tried_again_and_the_lane_goes_on(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https_alarm, "TRY_AGAIN_S", 0.1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        opening = table.listening(port=port)
        entering = asyncio.create_task(opening.__aenter__())
        await asyncio.sleep(0.3)
        assert not entering.done()
        await table.lane.turn([table.arrival("sd-1", table.message(1, FIRE))])
        assert len(table.opened) == 1
    listener = await entering
    assert listener.state() == {"https": f"127.0.0.1:{port}", "https_trouble": False}
    await opening.__aexit__(None, None, None)


async def test_after_a_restart_the_alarm_still_stands_and_its_repeat_is_answered(table: Table) -> None:
    at, _ = table.device("sd-1", expired=True)
    async with table.listening() as listener:
        assert (await post(at(listener.port), "sd-1", table.message(1, FIRE))).taken == 1
    table.journal.close()
    table.restart()
    async with table.listening() as listener:
        assert (await post(at(listener.port), "sd-1", table.message(1, FIRE))).taken == 1
        assert (await post(at(listener.port), "sd-1", table.message(2, FIRE))).taken == 1
    assert len(table.rows("SELECT id FROM incident")) == 1
    said = json.loads(table.rows("SELECT notice FROM incident")[0][0])
    assert said["device"] == "sd-1"
