"""The ingest clients under measurement, and our Ingest on the chosen one, each behind the same four calls.

The consumer process drives one: take → SQLite commit at synchronous=FULL → acknowledge. Each adapter uses only what its library
offers in public, except `aiomqtt-private`, which reaches paho through aiomqtt's private attribute to show what that would give.

`python -m benchmarks.mqtt_consumers JOB.json` runs one consumer until it holds `expect` messages and prints its figures as JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import sqlite3
import ssl
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import aiomqtt
import gmqtt
import mqttium
from mqttium.api import AsyncClient, Message, Properties
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties

from drivers.mqtt.ingest import Ingest
from iotcore.clock import SystemClock
from iotcore.wire.arrival import Endpoint

SESSION_EXPIRY_S = 86_400
BATCH_LIMIT = 500
QUIET_S = 2.0  # no message for so long: the consumer gives up and reports what it has
RECEIVE_MAXIMUM = 65_535  # MQTT 5, 3.1.2.11.3: the same as saying nothing


@dataclass(frozen=True, slots=True)
class Job:
    """What one consumer process has to do; `expect` distinct messages (any messages without `commit`) end it."""

    client: str
    port: int
    topic: str
    database: str
    expect: int
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    client_id: str = "bench-consumer"
    commit: bool = True  # False: take and acknowledge, nothing else

    def tls(self) -> ssl.SSLContext | None:
        if not self.ca_file:
            return None
        context = ssl.create_default_context(cafile=self.ca_file)
        context.load_cert_chain(self.cert_file, self.key_file)
        return context


class Consumer(Protocol):
    """What the driver asks of a client."""

    session_present: bool

    async def connect(self) -> None: ...
    async def take(self) -> list[tuple[bytes, Any]]: ...
    async def acknowledge(self, tokens: Sequence[Any]) -> None: ...
    async def close(self) -> None: ...


class Aiomqtt:
    """aiomqtt as its public API has it: paho acknowledges when its callback returns, before our code has the message."""

    manual = False

    def __init__(self, job: Job) -> None:
        properties = PahoProperties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        self.job, self.session_present = job, False
        self.client = aiomqtt.Client(
            "127.0.0.1",
            job.port,
            identifier=job.client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            properties=properties,
            tls_context=job.tls(),
        )
        if self.manual:
            self.client._client.manual_ack_set(on=True)  # noqa: SLF001 -- what this variant is about: there is no public way
        self.stack = AsyncExitStack()

    async def connect(self) -> None:
        await self.stack.enter_async_context(self.client)
        await self.client.subscribe(self.job.topic, qos=1)
        self.messages = self.client.messages

    async def take(self) -> list[tuple[bytes, Any]]:
        batch = [await anext(self.messages)]
        while len(self.messages) and len(batch) < BATCH_LIMIT:
            batch.append(await anext(self.messages))
        return [(bytes(message.payload), message.mid) for message in batch]

    async def acknowledge(self, tokens: Sequence[Any]) -> None:
        if self.manual:
            for mid in tokens:
                self.client._client.ack(mid, 1)  # noqa: SLF001 -- see above

    async def close(self) -> None:
        await self.stack.aclose()


class AiomqttPrivate(Aiomqtt):
    """aiomqtt with paho's manual acknowledgement through the private attribute `_client`."""

    manual = True


class Gmqtt:
    """gmqtt: PUBACK is sent when the coroutine given as on_message returns, so each message waits for its commit in a task."""

    def __init__(self, job: Job) -> None:
        self.job, self.session_present = job, False
        self.queue: asyncio.Queue[tuple[bytes, asyncio.Future[int]]] = asyncio.Queue()
        self.client = gmqtt.Client(
            job.client_id, clean_session=False, optimistic_acknowledgement=False, session_expiry_interval=SESSION_EXPIRY_S
        )
        self.client.on_message = self._on_message
        self.client.on_connect = lambda *_: None
        self.client.on_disconnect = lambda *_: None
        self.client.on_subscribe = lambda *_: None

    async def _on_message(self, _client: Any, _topic: str, payload: bytes, _qos: int, _properties: Any) -> int:
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.queue.put_nowait((payload, done))
        return await done

    async def connect(self) -> None:
        await self.client.connect("127.0.0.1", self.job.port, ssl=self.job.tls() or False)
        self.client.subscribe(self.job.topic, qos=1)

    async def take(self) -> list[tuple[bytes, Any]]:
        batch = [await self.queue.get()]
        while not self.queue.empty() and len(batch) < BATCH_LIMIT:
            batch.append(self.queue.get_nowait())
        return batch

    async def acknowledge(self, tokens: Sequence[Any]) -> None:
        for done in tokens:
            done.set_result(0)

    async def close(self) -> None:
        await self.client.disconnect()


class Mqttium:
    """mqttium: manual_ack with a bounded iterator queue; `limit` is the receive maximum it announces and enforces."""

    limit = RECEIVE_MAXIMUM

    def __init__(self, job: Job) -> None:
        self.job, self.session_present = job, False
        self.client = AsyncClient(
            job.client_id,
            protocol=mqttium.MQTTProtocolVersion.MQTTv5,
            clean_start=False,
            manual_ack=True,
            connect_properties=Properties({"session_expiry_interval": SESSION_EXPIRY_S}),
            max_inbound_inflight=self.limit,
            max_iterator_messages=10_000,
            max_iterator_bytes=None,
        )

    async def connect(self) -> None:
        answer = await self.client.connect("127.0.0.1", self.job.port, ssl=self.job.tls())
        self.session_present = answer.session_present
        self.messages = self.client.messages()
        if not self.session_present:  # with a backlog, SUBACK would wait behind a full queue that nobody empties yet
            await self.client.subscribe(self.job.topic, qos=1)

    async def take(self) -> list[tuple[bytes, Any]]:
        message = await anext(self.messages)
        batch: list[tuple[bytes, Message]] = [(message.payload, message)]
        for _ in range(min(self.client.stats().delivery.iterator_queued, BATCH_LIMIT - 1)):
            message = await anext(self.messages)
            batch.append((message.payload, message))
        return batch

    async def acknowledge(self, tokens: Sequence[Any]) -> None:
        for message in tokens:
            await self.client.ack(message)

    async def close(self) -> None:
        await self.client.disconnect()


class OurIngest:
    """`drivers.mqtt.ingest.Ingest`, what the lanes use: our own client with reconnect, inbox and watch."""

    def __init__(self, job: Job) -> None:
        self.session_present = False
        files = [Path(name) for name in (job.ca_file, job.cert_file, job.key_file)]
        self.client = Ingest(
            Endpoint("127.0.0.1", job.port, *files), job.client_id, [job.topic], SystemClock(), tls=bool(job.ca_file)
        )

    async def connect(self) -> None:
        await self.client.__aenter__()
        while not self.client.connected:  # noqa: ASYNC110 -- a benchmark's start, not its measured part
            await asyncio.sleep(0.005)

    async def take(self) -> list[tuple[bytes, Any]]:
        return [(arrival.payload, arrival) for arrival in await self.client.take(BATCH_LIMIT)]

    async def acknowledge(self, tokens: Sequence[Any]) -> None:
        self.client.acknowledge(tokens)

    async def close(self) -> None:
        await self.client.__aexit__(None, None, None)


class MqttiumLimited(Mqttium):
    """mqttium that enforces a receive maximum of 64, to show what Mosquitto 2.0.x does with it after a resume."""

    limit = 64


CLIENTS: dict[str, type[Any]] = {
    "aiomqtt": Aiomqtt,
    "aiomqtt-private": AiomqttPrivate,
    "gmqtt": Gmqtt,
    "mqttium": Mqttium,
    "mqttium-limit-64": MqttiumLimited,
    "ingest": OurIngest,
}


class Store:
    """The commit that must come before the acknowledgement: one row a message, SQLite WAL at synchronous=FULL."""

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        self.connection.execute("CREATE TABLE IF NOT EXISTS message (seq INTEGER PRIMARY KEY, payload BLOB)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def commit(self, rows: Sequence[tuple[int, bytes]]) -> int:
        self.connection.execute("BEGIN IMMEDIATE")
        cursor = self.connection.executemany("INSERT OR IGNORE INTO message VALUES (?, ?)", rows)
        added = cursor.rowcount
        self.connection.execute("COMMIT")
        return added


async def take_only(job: Job) -> dict[str, Any]:
    """Take and acknowledge `expect` messages: the CPU of the client alone, from connect to the last acknowledgement."""
    consumer: Consumer = CLIENTS[job.client](job)
    started_s = time.process_time()
    await consumer.connect()
    print("connected", flush=True)
    taken = 0
    while taken < job.expect:
        batch = await asyncio.wait_for(consumer.take(), QUIET_S)
        taken += len(batch)
        await consumer.acknowledge([token for _, token in batch])
        await asyncio.sleep(0)
    cpu_s = time.process_time() - started_s
    await consumer.close()
    return {"stored": taken, "seconds": 0.0, "cpu_s": cpu_s, "waits_ms": [], "problem": "", "in_order": False}


async def consume(job: Job) -> dict[str, Any]:
    """Receive, commit, acknowledge until `expect` new messages are stored, or until nothing came for QUIET_S."""
    consumer: Consumer = CLIENTS[job.client](job)
    waits: list[float] = []
    order: list[int] = []
    stored = batches = 0
    problem, first, last = "", 0.0, 0.0
    try:
        with Store(job.database) as store:
            await consumer.connect()
            print("connected", flush=True)
            started = resource.getrusage(resource.RUSAGE_SELF)
            while stored < job.expect:
                taken = await asyncio.wait_for(consumer.take(), QUIET_S)
                first = first or time.perf_counter()
                messages = [json.loads(payload) for payload, _ in taken]
                stored += store.commit([(m["seq"], payload) for m, (payload, _) in zip(messages, taken, strict=True)])
                now = time.monotonic_ns()
                waits += [(now - m["ts"]) / 1e6 for m in messages]
                order += [m["seq"] for m in messages]
                batches += 1
                await consumer.acknowledge([token for _, token in taken])
                last = time.perf_counter()
                await asyncio.sleep(0)
            await consumer.close()
    except (TimeoutError, StopAsyncIteration, aiomqtt.MqttError, mqttium.MQTTError) as error:
        problem = f"{type(error).__name__}: {error}"
    cpu_s = 0.0
    if order:
        ended = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime
    return {
        "stored": stored, "received": len(order), "in_order": order == sorted(order), "batches": batches,
        "seconds": last - first, "cpu_s": cpu_s, "waits_ms": waits, "problem": problem,
    }  # fmt: skip


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    what = Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    print(json.dumps(asyncio.run(consume(what) if what.commit else take_only(what))))
