"""The alternate path of fire devices: readings by HTTPS, when the fire broker cannot be reached or does not let them in.

    POST /iotcore/v1/readings/{device}    the payload of …/up/reading/{device}, one object or an array; likewise /events/
      └► certificate ─► rate ─► queue ─► lane: decode, rules, one commit ─► 200 with receipts │ 4xx, 429, 503 with a reason

The client certificate must be of the fire anchor, else the handshake fails; it names the publisher, as it does on the broker. One
that has run out is let in, and delivers alarms only, or nothing (`fire.expired`): a detector that could not renew must not be
silent in a fire. An answer comes after the commit or not at all: who gets none, or a 503, says the same again, and the identity
of the reading makes it one. A listener that cannot listen never stops the lane; it says so and tries again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
from aiohttp import web

from drivers.rates import Rates
from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import IotError, StoreError
from iotcore.provision import alternate
from iotcore.provision.alternate import Given, Shown
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival, Delivered, Refusal
from iotcore.wire.messages import ReceiptMessage

NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h; Python has no name for it
MAX_CONNECTIONS = 2_000  # in their handshake or after it; a new one beyond that is closed. A device needs one for some seconds
ACCEPT_PAUSE_S = 0.004  # between two: a handshake takes a millisecond of the loop that the lane runs on
BACKLOG = 128  # that the kernel holds meanwhile
HANDSHAKE_S = 5.0
IDLE_S = 30.0  # a connection without a request is closed
BODY_S = 5.0  # for a request to arrive
ANSWER_S = 5.0  # for the commit; then 503, and the reading may be stored all the same
QUEUE = 100  # posts that wait for the lane: 6.4 MB at most
RETRY_AFTER_S = 1
PER_NAME_PER_S = 20.0  # posts of one certificate name; a gateway posts up to 500 readings with each
PER_NAME_BURST = 100
LOOK_S = 1.0  # between looks at the revocation lists
TRY_AGAIN_S = 5.0  # a port that is taken, files that are not there yet
REGISTRY_S = 2.0  # for the registry to say whether an expired certificate is revoked
STATUS_OF = {"not_json": 400, "schema": 400, "topic": 400, "batch_too_long": 400, "oversized": 413, "unknown_device": 404}
FORBIDDEN = 403
log = logging.getLogger(__name__)


class Deliver(Protocol):
    """The lane (`iotcore.alarms.lane.FireLane.deliver`)."""

    def __call__(self, arrival: Arrival, *, alarms_only: bool = False) -> Awaitable[Delivered]:
        """Carry one message to its commit."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where it listens, and with which files."""

    host: str
    port: int
    cert_file: Path
    key_file: Path
    given: Given


@dataclass(frozen=True, slots=True)
class _Post:
    arrival: Arrival
    alarms_only: bool
    done: asyncio.Future[Delivered]


class HttpsAlarm:
    """One listener; `run` it beside the lane. `refuses` asks the registry whether a certificate (serial) is revoked.

    The lists need not name a revoked certificate once it has run out (RFC 5280, 3.3), so for those the registry is asked. One
    that does not answer lets them in: alarms only, of a device that is neither suspended nor retired. `port` 0 takes a free one.
    `shared`: replicas listen there too; the kernel gives each connection to one of them, and all to those that are left.
    """

    def __init__(
        self,
        place: Place,
        deliver: Deliver,
        refuses: Callable[[str], Awaitable[bool]],
        clock: Clock,
        *,
        expired: Literal["alarms", "refuse"] = "alarms",
        answer_s: float = ANSWER_S,
        queue: int = QUEUE,
        shared: bool = False,
    ) -> None:
        self.port = place.port
        self.said = ""  # where it listens, or what keeps it from it
        self.trouble = False
        self.listening = asyncio.Event()
        self._place = place
        self._deliver = deliver
        self._refuses = refuses
        self._clock = clock
        self._expired = expired
        self._shared = shared
        self._answer_s = answer_s
        self._waiting: asyncio.Queue[_Post] = asyncio.Queue(queue)
        self._rates = Rates(clock, PER_NAME_PER_S, PER_NAME_BURST)
        self._revoked: frozenset[str] = frozenset()
        self._stamp: tuple[int, ...] = ()
        self._refused_last: Shown | None = None  # told once, not for each request

    def state(self) -> dict[str, Any]:
        """For the beat, which `iotcore doctor` reads."""
        return {"https": self.said, "https_trouble": self.trouble}

    async def run(self) -> None:
        """Listen until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._carry())
            group.create_task(self._listen())

    async def _carry(self) -> None:
        """One post a turn: a batch from the broker waits for one commit of these at most."""
        while True:
            post = await self._waiting.get()
            try:
                delivered = await self._deliver(post.arrival, alarms_only=post.alarms_only)
            except StoreError as error:
                if not post.done.done():
                    post.done.set_exception(error)
                continue
            if not post.done.done():
                post.done.set_result(delivered)

    async def _listen(self) -> None:
        while True:
            try:
                await self._serve()
            except (OSError, IotError, ValueError) as error:  # ssl.SSLError is an OSError
                said = f"{self._place.host}:{self._place.port} cannot be used: {error}"
                if said != self.said:
                    log.critical("no alternate path for fire devices: %s; trying again", said)
                self.said, self.trouble = said, True
            self.listening.clear()
            await asyncio.sleep(TRY_AGAIN_S)

    async def _serve(self) -> None:
        """Listen, and follow the lists.

        Raises:
            OSError: the port is taken, or a file is missing.
            IotError: likewise.
        """
        self._revoked, self._stamp = await asyncio.to_thread(self._place.given.revoked), self._place.given.stamp()
        tls = _context(self._place)
        application = web.Application(client_max_size=topics.MAX_PAYLOAD_BYTES)
        application.router.add_post(r"/iotcore/v1/{kind:readings|events}/{device:[A-Za-z0-9_-]{1,64}}", self._post)
        runner = web.AppRunner(application, access_log=None, keepalive_timeout=IDLE_S, shutdown_timeout=1.0)
        await runner.setup()
        try:
            assert runner.server is not None
            await self._bound(runner.server, tls)
        finally:
            await runner.cleanup()

    async def _bound(self, served: web.Server, tls: ssl.SSLContext) -> None:
        host, port = self._place.host, self._place.port
        with socket.create_server(
            (host, port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=BACKLOG,
            reuse_port=self._shared,
        ) as door:
            door.settimeout(0.0)
            self.port = door.getsockname()[1]
            self.said, self.trouble = f"{host}:{self.port}", False
            self.listening.set()
            accepting = asyncio.create_task(self._accept(door, served, tls), name="alternate path")
            try:
                while not (await asyncio.wait({accepting}, timeout=LOOK_S))[0]:
                    await self._follow(tls)
                accepting.result()  # raises what ended it
            finally:
                accepting.cancel()
                await asyncio.wait({accepting})

    async def _accept(self, door: socket.socket, served: web.Server, tls: ssl.SSLContext) -> None:
        """Let connections in one by one. Their handshakes share the lane's event loop, so a flood of them must not fill it.

        Raises:
            OSError: no more can be let in, such as for want of file descriptors.
        """
        loop, entering = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        try:
            while True:
                connection, _ = await loop.sock_accept(door)
                if len(served.connections) + len(entering) >= MAX_CONNECTIONS:
                    connection.close()
                    metrics.fire_https.labels("too_many").inc()
                else:
                    task = asyncio.create_task(_let_in(connection, served, tls))
                    entering.add(task)
                    task.add_done_callback(entering.discard)
                await asyncio.sleep(ACCEPT_PAUSE_S)
        finally:
            for task in entering:
                task.cancel()

    async def _follow(self, tls: ssl.SSLContext) -> None:
        """Issuers and lists as they are now; what cannot be read leaves those from before in use."""
        stamp = self._place.given.stamp()
        if not stamp or stamp == self._stamp:
            return
        try:
            tls.load_verify_locations(cafile=str(self._place.given.trust))
            self._revoked = await asyncio.to_thread(self._place.given.revoked)
        except (OSError, IotError, ValueError) as error:
            log.error("the alternate path keeps the revocation lists from before: %s", error)  # noqa: TRY400 - tried again
            return
        self._stamp = stamp

    async def _post(self, request: web.Request) -> web.Response:
        tls = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        if not der:  # gone meanwhile
            return _problem(FORBIDDEN, "certificate", "no certificate was shown")
        shown = alternate.shown(der, self._clock.wall_ms())
        wait_s = self._rates.must_wait(shown.name)
        if wait_s:
            return _problem(429, "limited", f"{shown.name} posts more than {PER_NAME_PER_S:.0f} times a second", wait_s)
        refusal = await self._refused(shown)
        if refusal is not None:
            if shown != self._refused_last:
                log.warning("refused on the alternate path: %s (certificate %s)", shown.name, shown.serial)
            self._refused_last = shown
            return refusal
        try:
            async with asyncio.timeout(BODY_S):
                payload = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return _problem(413, "oversized", f"at most {topics.MAX_PAYLOAD_BYTES} bytes")
        except TimeoutError:
            return _problem(408, "slow", f"the request did not arrive in {BODY_S:.0f} s")
        kind = "reading" if request.match_info["kind"] == "readings" else "event"
        topic = topics.up(topics.FIRE_DOMAIN, shown.name, kind, request.match_info["device"])
        arrival = Arrival(topic, payload, retained=False, received_ms=self._clock.wall_ms())
        return await self._delivered(arrival, alarms_only=not shown.current)

    async def _refused(self, shown: Shown) -> web.Response | None:
        """Why this certificate is good for nothing; None: it is good, for alarms at least."""
        if shown.serial in self._revoked:
            return _problem(FORBIDDEN, "revoked", "the certificate is revoked or on hold")
        if shown.current:
            return None
        if self._expired == "refuse":
            return _problem(FORBIDDEN, "expired", "the certificate has run out")
        try:
            async with asyncio.timeout(REGISTRY_S):
                revoked = await self._refuses(shown.serial)
        except (IotError, TimeoutError) as error:
            log.error("nobody can say whether the expired certificate %s is revoked: %s", shown.serial, error)  # noqa: TRY400
            metrics.fire_https.labels("unproven").inc()
            return None
        return _problem(FORBIDDEN, "revoked", "the certificate is revoked or superseded") if revoked else None

    async def _delivered(self, arrival: Arrival, *, alarms_only: bool) -> web.Response:
        done: asyncio.Future[Delivered] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait(_Post(arrival, alarms_only, done))
        except asyncio.QueueFull:
            return _problem(503, "busy", "too many posts wait; nothing was stored", RETRY_AFTER_S)
        try:
            async with asyncio.timeout(self._answer_s):
                return _answer(await done, self._clock.wall_ms())
        except StoreError as error:
            return _problem(503, "stalled", str(error), RETRY_AFTER_S)
        except TimeoutError:
            return _problem(503, "late", f"not stored within {self._answer_s:.0f} s; say it again", RETRY_AFTER_S)


async def _let_in(connection: socket.socket, served: web.Server, tls: ssl.SSLContext) -> None:
    try:
        await asyncio.get_running_loop().connect_accepted_socket(
            served, connection, ssl=tls, ssl_handshake_timeout=HANDSHAKE_S, ssl_shutdown_timeout=1.0
        )
    except OSError:  # no certificate, none of the fire anchor, or too slow; ssl.SSLError is one
        metrics.fire_https.labels("handshake").inc()


def _context(place: Place) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.num_tickets = 0  # each connection proves anew that it holds the key
    context.load_cert_chain(place.cert_file, place.key_file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= NO_CHECK_TIME
    context.load_verify_locations(cafile=str(place.given.trust))
    return context


def _answer(delivered: Delivered, now_ms: float) -> web.Response:
    """200 when something of it is stored; else the first reason why nothing is."""
    if not delivered.taken:
        first = delivered.refusals[0] if delivered.refusals else Refusal("empty", "there is no reading in it", "", "", b"")
        reason = first.reason.partition(":")[0]
        return _problem(STATUS_OF.get(reason, 400 if reason == "empty" else FORBIDDEN), reason, first.detail)
    metrics.fire_https.labels("stored").inc()
    receipts = [ReceiptMessage(boot=boot, up_to=up_to, ts=int(now_ms)) for boot, up_to in delivered.up_to.items() if up_to > 0]
    refused = [{"reason": one.reason, "detail": one.detail} for one in delivered.refusals]
    body = msgspec.json.encode({"taken": delivered.taken, "receipts": receipts, "refused": refused})
    return web.Response(body=body, content_type="application/json")


def _problem(status: int, reason: str, detail: str, retry_s: float = 0.0) -> web.Response:
    """RFC 9457; `reason` is a name that devices rely on, and the outcome that is counted."""
    metrics.fire_https.labels(reason).inc()
    document = {"type": f"urn:iotcore:problem:{reason}", "title": reason.replace("_", " "), "status": status, "detail": detail}
    headers = {"Retry-After": str(math.ceil(retry_s))} if retry_s else {}
    body = msgspec.json.encode(document)
    return web.Response(status=status, body=body, content_type="application/problem+json", headers=headers)
