"""Which MQTT client can carry the ingest: measured on a real Mosquitto that this starts on a free loopback port.

For aiomqtt (public API), aiomqtt with paho's manual acknowledgement through its private attribute, gmqtt, mqttium, our Ingest:

    rate       messages/s from a queued session: take, one SQLite commit (synchronous=FULL) a batch, then acknowledge;
               CPU µs of the consumer a message (decoding and commit included)
    taken      CPU µs of the client alone a message: take and acknowledge, connecting included
    low        publish → committed latency at 200 messages/s          } without TLS and with mutual TLS
    saturated  the same while a publisher sends as fast as it can     }
    kill       kill -9 of the consumer twice under load: messages that were acknowledged but never committed
    resume     300 messages queued for a resumed session: all there, in order?

and what `autosave_on_changes` with `autosave_interval 1` costs Mosquitto itself. `python -m benchmarks.mqtt_clients` takes about
two minutes, and takes the better of two rounds; its last line is one JSON object. With names of clients it measures only those.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.load import BarePublisher, publish
from benchmarks.mqtt_consumers import Job
from tests.support.certificates import ThrowawayAuthority
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port

CLIENTS = ("aiomqtt", "aiomqtt-private", "gmqtt", "mqttium", "ingest")
LIMITS = "max_inflight_messages 1000\nmax_queued_messages 0\n"  # the broker's own 20 and 1000 would be what is measured
ROUNDS = 2
RATE_COUNT = 10_000
TAKEN_COUNT = 20_000
LOW_COUNT, LOW_RATE, WARM_COUNT = 400, 200.0, 50  # the first ones pay for the start of the process
SATURATED_COUNT = 10_000
KILL_COUNT = 10_000
KILL_AT = (1_000, 3_000)  # messages in the database
RESUME_COUNT = 300
RETAINED_COUNT, AUTOSAVE_COUNT = 1_000, 500
ANSWER_LIMIT_S = 60.0
NOTHING = {"stored": 0, "seconds": 0.0, "cpu_s": 0.0, "in_order": False}


@dataclass(frozen=True, slots=True)
class Bench:
    """One broker: `job` is a consumer's job on its measured listener, `load_port` a plain listener for the publisher."""

    folder: Path
    load_port: int
    job: Job

    def start(self, job: Job) -> subprocess.Popen[str]:
        """A consumer process that is connected, with its subscription made."""
        path = self.folder / f"job-{time.monotonic_ns()}.json"
        path.write_text(json.dumps(asdict(job)), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.mqtt_consumers", str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def client(self, name: str, phase: str) -> Job:
        """A job of its own session, topic and database."""
        label = f"{name}-{phase}"
        topic, database = f"iot/v1/air/{label}/up/reading/{label}", str(self.folder / f"{label}.db")
        return replace(self.job, client=name, topic=topic, client_id=label, database=database)


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The consumer's figures; a consumer that fails or hangs has none."""
    try:
        out, _ = process.communicate(timeout=ANSWER_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {
            "problem": f"no end within {ANSWER_LIMIT_S:.0f} s",
            "stored": 0,
            "waits_ms": [],
            "seconds": 0.0,
            "in_order": False,
        }
    if process.returncode != 0 or not out.strip():
        return {"problem": f"exit {process.returncode}", "waits_ms": [], **NOTHING}
    figures: dict[str, Any] = json.loads(out.splitlines()[-1])
    return figures


def quantile(waits_ms: list[float], share: float) -> float | None:
    """The `share` quantile of milliseconds, None of nothing."""
    ordered = sorted(waits_ms)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 2) if ordered else None


def speed(bench: Bench, name: str, phase: str) -> dict[str, float | None]:
    """Latency at a low rate, rate from a queued session, latency while saturated; one session for all three."""
    job = bench.client(name, phase)
    low = bench.start(replace(job, expect=LOW_COUNT))
    publish(bench.load_port, job.topic, LOW_COUNT, rate=LOW_RATE)
    slow = answer(low)
    slow["waits_ms"] = slow["waits_ms"][WARM_COUNT:]
    publish(bench.load_port, job.topic, RATE_COUNT, first=10_000)
    rate = answer(bench.start(replace(job, expect=RATE_COUNT)))
    saturated = bench.start(replace(job, expect=SATURATED_COUNT))
    publish(bench.load_port, job.topic, SATURATED_COUNT, first=100_000)
    fast = answer(saturated)
    publish(bench.load_port, job.topic, TAKEN_COUNT, first=200_000)
    taken = answer(bench.start(replace(job, expect=TAKEN_COUNT, commit=False)))
    whole = rate["stored"] == RATE_COUNT
    return {
        "rate_per_s": round(rate["stored"] / rate["seconds"]) if whole else None,
        "cpu_us_per_message": round(rate["cpu_s"] / RATE_COUNT * 1e6, 1) if whole else None,
        "taken_cpu_us": round(taken["cpu_s"] / TAKEN_COUNT * 1e6, 1) if taken["stored"] >= TAKEN_COUNT else None,
        "low_p50_ms": quantile(slow["waits_ms"], 0.5),
        "low_p99_ms": quantile(slow["waits_ms"], 0.99),
        "saturated_p50_ms": quantile(fast["waits_ms"], 0.5),
        "saturated_p99_ms": quantile(fast["waits_ms"], 0.99),
    }


def best(rounds: list[dict[str, float | None]]) -> dict[str, float | None]:
    """The best of each figure over the rounds: other work on the machine only ever makes them worse."""
    merged: dict[str, float | None] = {}
    for key in rounds[0]:
        seen = [figure for figures in rounds if (figure := figures[key]) is not None]
        merged[key] = (max(seen) if key == "rate_per_s" else min(seen)) if seen else None
    return merged


def killed(bench: Bench, name: str) -> dict[str, Any]:
    """Kill the consumer under load; what the broker has as acknowledged and the database has not is lost."""
    job = bench.client(name, "kill")
    consumer = bench.start(replace(job, expect=KILL_COUNT))
    publish(bench.load_port, job.topic, KILL_COUNT)
    for level in KILL_AT:
        deadline = time.monotonic() + ANSWER_LIMIT_S
        while stored(job) < level and time.monotonic() < deadline:
            time.sleep(0.002)
        consumer.kill()
        consumer.communicate()
        consumer = bench.start(replace(job, expect=KILL_COUNT))
    answer(consumer)  # it ends when nothing came for a while
    return {"kills": len(KILL_AT), "published": KILL_COUNT, "lost": KILL_COUNT - stored(job)}


def stored(job: Job) -> int:
    """Messages that the consumer has committed."""
    connection = sqlite3.connect(job.database)
    try:
        count: int = connection.execute("SELECT count(*) FROM message").fetchone()[0]
    finally:
        connection.close()
    return count


def resumed(bench: Bench, name: str) -> dict[str, Any]:
    """Queue messages for an existing session, then resume it."""
    job = bench.client(name, "resume")
    answer(bench.start(replace(job, expect=0)))
    publish(bench.load_port, job.topic, RESUME_COUNT)
    figures = answer(bench.start(replace(job, expect=RESUME_COUNT)))
    return {"arrived": figures["stored"], "in_order": figures["in_order"], "problem": figures["problem"]}


def autosave(folder: Path) -> dict[str, int]:
    """Messages/s that Mosquitto takes for one absent session while it holds retained birth messages, by how it saves."""
    figures = {}
    births = [(f"iot/v1/air/d{n}/up/status/d{n}".encode(), b'{"state":"online"}') for n in range(RETAINED_COUNT)]
    for name, durable in (("every_change", True), ("every_second", False)):
        with Mosquitto(folder / name, durable=False, extra=LIMITS) as broker:
            bench = Bench(broker.folder, broker.port, Job("", broker.port, "", "", 0))
            job = bench.client("mqttium", "absent")
            answer(bench.start(job))
            with BarePublisher(broker.port, "births") as publisher:
                publisher.send(births, retain=True)
                publisher.drain()
            broker.stop()
            broker.durable = durable
            broker.configure()
            broker.start()
            figures[name] = round(AUTOSAVE_COUNT / publish(broker.port, job.topic, AUTOSAVE_COUNT))
    return figures


def measure(bench: Bench, clients: Sequence[str], *, losses: bool) -> dict[str, dict[str, Any]]:
    """The figures of these clients on one broker; `losses` adds kill and resume, which TLS does not change."""
    figures: dict[str, dict[str, Any]] = {}
    rounds = [{client: speed(bench, client, f"speed{n}") for client in clients} for n in range(ROUNDS)]  # taken in turns
    for client in clients:
        figures[client] = {"speed": best([figures_of[client] for figures_of in rounds])}
        if losses:
            figures[client] |= {"kill": killed(bench, client), "resume": resumed(bench, client)}
        print(f"{client}: {figures[client]}", flush=True)
    if losses:
        figures["mqttium-limit-64"] = {"resume": resumed(bench, "mqttium-limit-64")}
        print(f"mqttium-limit-64: {figures['mqttium-limit-64']}", flush=True)
    return figures


def main(clients: Sequence[str] = CLIENTS) -> dict[str, Any]:
    """All figures: {"plain": {client: ...}, "mtls": {client: ...}, "mosquitto_autosave_per_s": ..., "cpus": ...}."""
    figures: dict[str, Any] = {"cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory(prefix="mqtt-clients-") as name:
        top = Path(name)
        authority = ThrowawayAuthority(top / "ca")
        pair = authority.issue("svc.telemetry.1.field")
        for mode, tls, files in (
            ("plain", None, {}),
            ("mtls", authority.server(), {"ca_file": authority.ca_file, "cert_file": pair.cert_file, "key_file": pair.key_file}),
        ):
            load_port = free_port()
            extra = f"{LIMITS}allow_anonymous true\nlistener {load_port} 127.0.0.1\n"
            with Mosquitto(top / mode, tls=tls, durable=False, extra=extra) as broker:
                paths: dict[str, Any] = {key: str(path) for key, path in files.items()}
                job = Job("", broker.port, "", "", 0, **paths)
                print(f"== {mode}", flush=True)
                figures[mode] = measure(Bench(top / mode, load_port, job), clients, losses=tls is None and clients == CLIENTS)
        if clients == CLIENTS:
            figures["mosquitto_autosave_per_s"] = autosave(top)
    return figures


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:] or CLIENTS)))
