"""Fires to somebody else's broker, a real Mosquitto: TLS with a certificate, PUBACK or the answer of whoever takes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
import pytest

from iotcore.clock import SystemClock
from iotcore.dispatch.mqtt_out import MqttChannel
from iotcore.errors import ConfigError, DeliveryError
from iotcore.journal.records import OutboxRow
from iotcore.settings import check
from iotcore.settings_channels import MqttReceiver
from tests.support.certificates import ThrowawayAuthority
from tests.support.fire import full_notice
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port
from tests.support.until import until

TOPIC = "city/fire/{premises}/{event}"
ANSWERS = "city/answers"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("out"), durable=False) as running:
        yield running


def receiver(port: int, **changes: Any) -> MqttReceiver:
    plain = MqttReceiver("city", "127.0.0.1", TOPIC, port, tls=False, reply_timeout_s=2.0)
    return msgspec.structs.replace(plain, **changes)


@asynccontextmanager
async def channel(port: int, **changes: Any) -> AsyncIterator[MqttChannel]:
    made = MqttChannel(receiver(port, **changes), SystemClock())
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def dispatch_centre(port: int, *answers: dict[str, Any] | bytes) -> AsyncIterator[list[tuple[str, dict[str, Any]]]]:
    """Takes alarms, and answers each with the next of `answers`; the incident is filled in."""
    taken: list[tuple[str, dict[str, Any]]] = []
    left = list(answers)
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("city/fire/#", qos=1)

        async def serve() -> None:
            async for message in client.messages:
                body = json.loads(bytes(message.payload))
                taken.append((str(message.topic), body))
                if left:
                    said = left.pop(0)
                    answer = (
                        said
                        if isinstance(said, bytes)
                        else json.dumps({"incident": body["incident"], "event": body["event"], **said})
                    )
                    await client.publish(ANSWERS, answer, qos=1)

        serving = asyncio.create_task(serve())
        yield taken
        serving.cancel()
        await asyncio.wait({serving})


def row(number: int = 7, **changes: Any) -> OutboxRow:
    told = full_notice(**changes)
    return OutboxRow(number, told.incident, "city", number, 0, told)


def ignore(at_ms: float) -> None:
    del at_ms


async def taken_by(taken: list[Any], count: int) -> None:
    await until(lambda: len(taken) >= count)


async def test_the_brokers_acknowledgement_is_enough_where_nobody_is_asked_to_answer(broker: Mosquitto) -> None:
    moments: list[float] = []
    async with dispatch_centre(broker.port) as taken, channel(broker.port) as out:
        assert await out.send(row(), moments.append) == "PUBACK"
        assert await out.send(row(8, event="restore"), moments.append) == "PUBACK"
        await taken_by(taken, 2)
    assert [topic for topic, _ in taken] == ["city/fire/p1/alarm", "city/fire/p1/restore"]
    assert taken[0][1]["premises"]["hydrants"] == "Trụ 12, trước cổng"
    assert len(moments) == 2


async def test_whoever_takes_them_accepts_or_rejects_by_incident(broker: Mosquitto) -> None:
    answers = [{"status": "accepted", "reference": "CAD-9"}, {"status": "rejected", "reason": "bad location"}]
    async with dispatch_centre(broker.port, *answers), channel(broker.port, reply_topic=ANSWERS) as out:
        assert await out.send(row(), ignore) == "accepted CAD-9"
        with pytest.raises(DeliveryError, match="bad location") as caught:
            await out.send(row(), ignore)
    assert (caught.value.reason, caught.value.recoverable) == ("rejected", False)


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff",
        b"[]",
        {"status": "perhaps"},
        {"status": "accepted", "incident": "another"},
        {"status": "accepted", "event": "restore"},
    ],
)
async def test_an_answer_that_is_none_acknowledges_nothing(broker: Mosquitto, answer: Any) -> None:
    async with dispatch_centre(broker.port, answer), channel(broker.port, reply_topic=ANSWERS, reply_timeout_s=0.3) as out:
        with pytest.raises(DeliveryError, match="no_reply"):
            await out.send(row(), ignore)


async def test_two_incidents_wait_side_by_side(broker: Mosquitto) -> None:
    accepted = {"status": "accepted"}
    async with dispatch_centre(broker.port, accepted, accepted) as taken, channel(broker.port, reply_topic=ANSWERS) as out:
        said = await asyncio.gather(out.send(row(1, incident="F1"), ignore), out.send(row(2, incident="F2"), ignore))
    assert list(said) == ["accepted", "accepted"]
    assert {body["incident"] for _, body in taken} == {"F1", "F2"}


async def test_a_broker_that_was_away_is_met_again(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, durable=False) as broker:
        async with channel(broker.port, reply_timeout_s=1.0) as out:
            assert await out.send(row(), ignore) == "PUBACK"
            broker.kill()
            with pytest.raises(DeliveryError) as caught:
                await out.send(row(), ignore)
            assert caught.value.recoverable
            broker.start()
            async with asyncio.timeout(10.0):
                while True:
                    try:
                        assert await out.send(row(), ignore) == "PUBACK"
                        break
                    except DeliveryError:
                        await asyncio.sleep(0.05)


async def test_nobody_listening_is_named() -> None:
    async with channel(free_port()) as out:
        with pytest.raises(DeliveryError, match="connection_lost"):
            await out.send(row(), ignore)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves a socket whose handshake failed
async def test_a_certificate_lets_in_and_a_stranger_neither_way(tmp_path: Path) -> None:
    authority = ThrowawayAuthority(tmp_path / "ca")
    ours, stranger = authority.issue("fire-service"), ThrowawayAuthority(tmp_path / "other", "other")
    files = {"cert_file": str(ours.cert_file), "key_file": str(ours.key_file)}
    with Mosquitto(tmp_path, tls=authority.server(), durable=False) as broker:
        async with channel(broker.port, tls=True, ca_file=str(authority.ca_file), **files) as out:
            assert await out.send(row(), ignore) == "PUBACK"
        for changes in ({"ca_file": str(stranger.ca_file), **files}, {"ca_file": str(authority.ca_file)}):
            async with channel(broker.port, tls=True, **changes) as out:
                with pytest.raises(DeliveryError):
                    await out.send(row(), ignore)


async def test_what_a_building_is_called_makes_no_level_and_no_wildcard(broker: Mosquitto) -> None:
    async with dispatch_centre(broker.port) as taken, channel(broker.port) as out:
        assert await out.send(row(premises="a/#+\x00b"), ignore) == "PUBACK"
        await taken_by(taken, 1)
    assert taken[0][0] == "city/fire/a____b/alarm"


def test_settings_refuse_topics_that_name_no_one_place() -> None:
    one = {"kind": "mqtt", "name": "m", "host": "h"}
    receivers = [
        one | {"topic": "a/#"},
        one | {"name": "n", "topic": "a/{nobody}", "reply_topic": "{incident}", "key_file": "k"},
        one | {"name": "o", "topic": "a", "tls": False, "password": "p"},
    ]
    with pytest.raises(ConfigError) as caught:
        check({"data": "d", "receivers": receivers}, "f")
    assert [problem.path for problem in caught.value.problems] == [
        "receivers[0].topic", "receivers[1].topic", "receivers[1].reply_topic", "receivers[1].cert_file", "receivers[2].tls",
    ]  # fmt: skip
