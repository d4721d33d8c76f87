"""A fleet of devices in a process of its own: thousands of certificates that connect, lose the network, and alarm at once.

`python -m benchmarks.fleet PLAN` reads its clients from a JSON file (`Client`), and a command from each line of its input:

    connect     all of them: TLS, CONNECT with a will, SUBSCRIBE, the birth acknowledged; how long it took, how long each
    drop        all sockets close without a goodbye
    alarm MS    at that moment (ms UTC) each says what its plan holds, in any order; when the first word of each premises left

It answers each with one line of JSON, and ends with its input.
"""

from __future__ import annotations

import itertools
import json
import random
import secrets
import ssl
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from benchmarks.bare_client import BareClient
from iotcore.wire import topics
from simulators.town import room_for

AT_ONCE = 32  # handshakes under way, as in `simulators.town`
TRIES = 5
PAUSE_S = 1.0

T = TypeVar("T")


class Say(msgspec.Struct, frozen=True):
    """One message: of whom, and what it holds; more than one is an array."""

    device: str
    values: list[dict[str, Any]]


class Client(msgspec.Struct, frozen=True):
    """One certificate. `domain` and `name` make its own status topic."""

    name: str
    port: int
    ca: str
    cert: str
    key: str
    domain: str
    premises: str = ""
    says: list[Say] = []


@dataclass(slots=True)
class Member:
    """A client and its connection."""

    plan: Client
    tls: ssl.SSLContext
    boot: str = field(default_factory=lambda: secrets.token_hex(4))
    link: BareClient | None = None
    tries: int = 0

    def connect(self) -> float:
        """Until its birth is acknowledged; how long that took, s."""
        began_s, plan = time.perf_counter(), self.plan
        status = topics.up(plan.domain, plan.name, "status", plan.name)
        while True:
            self.tries += 1
            try:
                self.link = BareClient(plan.port, plan.name, self.tls, (status, b'{"v":1,"state":"offline"}'))
                self.link.subscribe(f"iot/v1/+/{plan.name}/down/#")
                self.link.publish([(status, json.dumps({"v": 1, "state": "online", "boot": self.boot}).encode())], retain=True)
                self.link.settle()
            except OSError:
                if self.tries % TRIES == 0:
                    raise
                time.sleep(PAUSE_S)
            else:
                return time.perf_counter() - began_s

    def drop(self) -> None:
        """The cable is out."""
        if self.link is not None:
            self.link.drop()
            self.link = None

    def alarm(self) -> float:
        """Say everything, in one write; ms UTC just before."""
        assert self.link is not None
        messages, seqs = [], itertools.count(1)
        at_ms = time.time_ns() / 1e6
        for say in self.plan.says:
            said = [{"v": 1, "boot": self.boot, "seq": next(seqs), "ts": int(at_ms), "values": values} for values in say.values]
            payload = json.dumps(said if len(said) > 1 else said[0]).encode()
            messages.append((topics.up("fire", self.plan.name, "event", say.device), payload))
        self.link.publish(messages)
        return at_ms

    def settle(self) -> None:
        """Everything is acknowledged by the broker."""
        assert self.link is not None
        self.link.settle()


class Fleet:
    """All of one process."""

    def __init__(self, clients: Iterable[Client]) -> None:
        self.members = [Member(client, _tls(client)) for client in clients]
        self._pool = ThreadPoolExecutor(AT_ONCE)

    def connect(self) -> dict[str, Any]:
        """Everybody, `AT_ONCE` at a time."""
        began_s = time.perf_counter()
        took = sorted(self._each(Member.connect))
        tries = sum(one.tries for one in self.members)
        for one in self.members:
            one.tries = 0
        return {"seconds": time.perf_counter() - began_s, "each_s": took, "again": tries - len(took)}

    def drop(self) -> dict[str, Any]:
        """Everybody loses the network."""
        for one in self.members:
            one.drop()
        return {}

    def alarm(self, at_ms: float) -> dict[str, Any]:
        """Everybody who has something to say says it then; the first moment of each premises, and when all was acknowledged."""
        speaking = [one for one in self.members if one.plan.says]
        random.shuffle(speaking)
        time.sleep(max(0.0, at_ms / 1e3 - time.time()))
        first: dict[str, float] = {}
        for one in speaking:
            said_ms = one.alarm()
            first.setdefault(one.plan.premises, said_ms)
        published_ms = time.time_ns() / 1e6
        for _ in self._pool.map(Member.settle, speaking):
            pass
        return {"first_ms": first, "published_ms": published_ms, "acknowledged_ms": time.time_ns() / 1e6}

    def _each(self, work: Callable[[Member], T]) -> Iterator[T]:
        return self._pool.map(work, self.members)


def _tls(client: Client) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=client.ca)
    context.load_cert_chain(client.cert, client.key)
    return context


def main(plan: Path) -> None:
    """Serve until the input ends."""
    clients = msgspec.json.decode(plan.read_bytes(), type=list[Client])
    room_for(len(clients))
    fleet = Fleet(clients)
    print(json.dumps({"clients": len(clients)}), flush=True)
    for line in sys.stdin:
        command, *arguments = line.split()
        answer = (
            fleet.alarm(float(arguments[0])) if command == "alarm" else {"connect": fleet.connect, "drop": fleet.drop}[command]()
        )
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
