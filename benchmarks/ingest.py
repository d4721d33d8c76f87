"""Bulk ingest beside a bare subscriber, on one Mosquitto over mutual TLS, in one run.

    publisher ──► Mosquitto ──► mosquitto_sub -q 1 (C: acknowledges at once, keeps nothing)                    = bare
    publisher ──► Mosquitto ──► Ingest → decode → durable commit → acknowledge → store (SQLite, InfluxDB 1.x)  = lane

`live`: one publisher sends messages of four values as fast as the broker takes them; from its first to the last that the
consumer has. `queued`: they wait in a session that the consumer resumes; from its CONNECT on. Here Mosquitto ignores its
in-flight limit and only writes, so the bare tool shows what a socket carries. The lane is done with a message once it is
committed; the drain lag is how much later the store holds everything. All is counted again in the store. The better of the rounds
is reported, because other work on the machine only ever makes them worse.

`python -m benchmarks.ingest [COUNT [ROUNDS]]` takes about a minute; its last line is one JSON object.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from benchmarks.ingest_lane import DEVICES, FILTERS, LaneJob
from benchmarks.load import BarePublisher
from iotcore.provision.broker import MAX_INFLIGHT
from iotcore.telemetry.stores import TELEMETRY_DB
from tests.support.certificates import Pair, ThrowawayAuthority
from tests.support.influx import Influxd
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port

LIMITS = f"max_inflight_messages {MAX_INFLIGHT}\nmax_queued_messages 0\n"
COUNT = 30_000
ROUNDS = 2
VALUES = 4
CHUNK = 100
LIMIT_S = 150.0
SETTLE_S = 0.1  # for the bare tool to connect; what comes before waits in its session
BARE_CN, LANE_CN = "svc.bench.1.bare", "svc.telemetry.1.field"


@dataclass(frozen=True, slots=True)
class Site:
    """The broker of the run and the certificates to meet it with."""

    folder: Path
    port: int
    load_port: int
    authority: ThrowawayAuthority
    pairs: dict[str, Pair]

    def subscribe(self, client_id: str, *arguments: str) -> subprocess.Popen[str]:
        """Start mosquitto_sub on the session `client_id`; it prints topic and payload of what it receives into a file."""
        with self.received(client_id).open("wb") as out:
            return self._tool(out, "-c", "-x", "3600", "-i", client_id, "-q", "1", "-v", "-t", FILTERS[0], *arguments)

    def forget(self, client_id: str) -> None:
        """End a session: one that stays would have the broker queue every later message for it as well."""
        self._tool(subprocess.DEVNULL, "-i", client_id, "-t", "nothing", "-E").wait(LIMIT_S)

    def _tool(self, out: IO[bytes] | int, *arguments: str) -> subprocess.Popen[str]:
        pair = self.pairs[BARE_CN]
        tls = ["--cafile", str(self.authority.ca_file), "--cert", str(pair.cert_file), "--key", str(pair.key_file)]
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.port), *tls, "-V", "5", *arguments]
        return subprocess.Popen(command, stdout=out, text=True)

    def received(self, client_id: str) -> Path:
        """What the bare subscriber with this session printed."""
        return self.folder / f"{client_id}.txt"

    def job(self, folder: Path, expect: int) -> LaneJob:
        """A lane on the embedded store in `folder`."""
        pair = self.pairs[LANE_CN]
        files = (str(self.authority.ca_file), str(pair.cert_file), str(pair.key_file))
        return LaneJob(self.port, LANE_CN, *files, str(folder), "embedded", "", expect)


def start_lane(job: LaneJob) -> subprocess.Popen[str]:
    """The lane's process, connected."""
    Path(job.folder).mkdir(parents=True, exist_ok=True)
    path = Path(job.folder) / "job.json"
    path.write_text(json.dumps(asdict(job)), encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.ingest_lane", str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def figures_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the lane says at its end."""
    out, _ = process.communicate(timeout=LIMIT_S)
    if process.returncode != 0:
        raise RuntimeError(f"the lane failed: exit {process.returncode}")
    figures: dict[str, Any] = json.loads(out.splitlines()[-1])
    return figures


def publish(port: int, count: int, boot: str) -> None:
    """`count` readings of four values, spread over the devices, numbered from 1 within `boot`."""
    topics = [f"iot/v1/air/a{n}/up/reading/a{n}".encode() for n in range(DEVICES)]
    with BarePublisher(port, f"load-{boot}") as publisher:
        for low in range(0, count, CHUNK):
            numbers = range(low, min(low + CHUNK, count))
            publisher.send([(topics[n % DEVICES], reading(boot, n // DEVICES + 1)) for n in numbers])
        publisher.drain()


def reading(boot: str, seq: int) -> bytes:
    """One message as an air station sends it."""
    values = {"no2": 18.0 + seq % 7, "o3": 42.0, "pm25": 18.3, "temperature": 24.1 + seq % 5}
    message = {"v": 1, "boot": boot, "seq": seq, "ts": time.time_ns() // 1_000_000, "fw": "2.4.1", "values": values}
    return json.dumps(message, separators=(",", ":")).encode()


def bare_s(site: Site, session: str, count: int, mode: str) -> float:
    """Seconds that the bare subscriber takes for `count` different messages."""
    # A session of its own each time: the tool leaves before the broker has read its last acknowledgements.
    site.subscribe(session, "-E").wait(LIMIT_S)
    if mode == "queued":
        publish(site.load_port, count, session)
    start = time.monotonic()
    tool = site.subscribe(session, "-C", str(count))
    if mode == "live":
        time.sleep(SETTLE_S)
        start = time.monotonic()
        publish(site.load_port, count, session)
    tool.wait(LIMIT_S)
    seconds = time.monotonic() - start
    site.forget(session)
    different = len(set(site.received(session).read_text(encoding="utf-8").splitlines()))
    if different != count:
        raise RuntimeError(f"the bare subscriber received {different} of {count} messages")
    return seconds


def lane_figures(site: Site, job: LaneJob, boot: str, mode: str) -> dict[str, float]:
    """Seconds, drain lag and CPU of the lane for `job.expect` messages."""
    figures_of(start_lane(replace(job, expect=0)))  # makes the session
    if mode == "queued":
        publish(site.load_port, job.expect, boot)
    process = start_lane(job)
    start = time.monotonic()
    if mode == "live":
        publish(site.load_port, job.expect, boot)
    figures = figures_of(process)
    site.forget(job.client_id)
    return {
        "seconds": figures["stored_s"] - (start if mode == "live" else figures["started_s"]),
        "drain_lag_s": figures["drained_s"] - figures["stored_s"],
        "cpu_s": figures["cpu_s"],
    }


def measure(site: Site, label: str, count: int, rounds: int, influx: Influxd | None) -> dict[str, dict[str, float]]:
    """Bare and lane in turn, live and queued, `rounds` times each."""
    result = {}
    for mode in ("live", "queued"):
        bares, lanes = [], []
        for number in range(rounds):
            boot = f"{label}-{mode}-{number}"
            job = site.job(site.folder / boot, count)
            if influx is not None:
                job = replace(job, store="influx1", url=influx.url)
            bares.append(bare_s(site, f"{BARE_CN}-{boot}", count, mode))
            before = influx.count("air_station") if influx is not None else 0
            lanes.append(lane_figures(site, job, boot, mode))
            held = influx.count("air_station") - before if influx is not None else rows(site.folder / boot) // VALUES
            if held != count:
                raise RuntimeError(f"{boot}: {count} readings were acknowledged and {held} are in the store")
            print(f"{boot}: bare {count / bares[-1]:.0f}/s, lane {count / lanes[-1]['seconds']:.0f}/s {lanes[-1]}", flush=True)
        bare, ours = count / min(bares), count / min(figures["seconds"] for figures in lanes)
        result[mode] = {
            "bare_per_s": round(bare),
            "lane_per_s": round(ours),
            "ratio": round(ours / bare, 3),
            "drain_lag_s": round(min(figures["drain_lag_s"] for figures in lanes), 3),
            "lane_cpu_us_per_message": round(min(figures["cpu_s"] for figures in lanes) / count * 1e6, 1),
        }
    return result


def rows(folder: Path) -> int:
    """Values in the embedded store."""
    with contextlib.closing(sqlite3.connect(folder / TELEMETRY_DB)) as connection:
        return int(connection.execute("SELECT count(*) FROM value").fetchone()[0])


@contextlib.contextmanager
def site(top: Path) -> Iterator[Site]:
    """A broker with mutual TLS, and a plain listener for the load so that it costs no more than it must."""
    authority, load_port = ThrowawayAuthority(top / "ca"), free_port()
    pairs = {cn: authority.issue(cn) for cn in (BARE_CN, LANE_CN)}
    extra = f"{LIMITS}allow_anonymous true\nlistener {load_port} 127.0.0.1\n"
    with Mosquitto(top, tls=authority.server(), durable=False, extra=extra) as broker:
        yield Site(top, broker.port, load_port, authority, pairs)


def main(count: int, rounds: int = ROUNDS) -> dict[str, Any]:
    """{"embedded": {"live": …, "queued": …}, "influx1": the same where influxd is installed, "count": ..., "cpus": ...}."""
    figures: dict[str, Any] = {"count": count, "values_per_message": VALUES, "cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory(prefix="ingest-") as name, site(Path(name)) as here:
        figures["embedded"] = measure(here, "embedded", count, rounds, None)
        if shutil.which("influxd") is None:
            print("influxd is not installed: only the embedded store is measured", flush=True)
            return figures
        with Influxd(here.folder) as influx:
            figures["influx1"] = measure(here, "influx1", count, rounds, influx)
    return figures


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:] or [str(COUNT)]))))
