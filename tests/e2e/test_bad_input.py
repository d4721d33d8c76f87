"""What faulty devices send, through real brokers with real certificates, on the fire broker and on the field broker.

Each is refused or flagged with a reason, counted, and shown as that device's fault; the lane goes on, and the next good reading
ends the fault. One platform serves the tests of this file.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiomqtt
import psutil
import pytest
import pytest_asyncio

from iotcore.process import home
from iotcore.provision.acl import BrokerName
from iotcore.settings import check
from iotcore.wire.arrival import Endpoint
from simulators.mqtt_device import MqttDevice
from tests.support.platform import Platform
from tests.support.ports import free_port
from tests.support.road import QUIET, SIGNAL_REPORT, enrolled, town

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

YEAR_1970, YEAR_2099 = 86_400_000, 4_070_908_800_000
MEGABYTE = b'{"boot":"b","seq":1,"values":{"smoke":0.01},"fw":"' + b"x" * 1_000_000 + b'"}'


@dataclass(slots=True)
class Faulty:
    """A device that misbehaves, where its lane keeps what it refused, and one of its points that holds a number."""

    platform: Platform
    device: MqttDevice
    lane_file: str
    fault_file: str
    point: str

    @property
    def name(self) -> str:
        return self.device.device

    def counted(self, reason: str) -> int:
        """How often this lane has refused something for this reason."""
        found = self.platform.rows(self.lane_file, "SELECT count FROM quarantine_count WHERE reason = ?", reason)
        return int(found[0][0]) if found else 0

    def faults(self) -> set[str]:
        """What stands against the device, as its lane keeps it."""
        query = "SELECT reason FROM fault WHERE device = ? AND cleared_ms IS NULL"
        return {reason for (reason,) in self.platform.rows(self.fault_file, query, self.name)}

    async def on_the_page(self) -> str:
        """The device's own row of the console."""
        page = await self.platform.page()
        found = re.search(rf'<li id="device-{self.name}".*?</li>', page, re.DOTALL)
        assert found is not None
        return found[0]

    async def sees(self, *, fault: str, words: str) -> None:
        """The fault stands in the lane's table and is shown to people; then a good reading ends both."""
        await self.platform.until(lambda: fault in self.faults(), 5.0, f"{self.name}: {fault}, not only {self.faults()}")
        async with asyncio.timeout(5.0):
            while words not in await self.on_the_page():  # noqa: ASYNC110 - another process draws it
                await asyncio.sleep(0.05)
        await self.goes_on()

    async def goes_on(self) -> None:
        """The lane takes a good reading, receipts it, and the device is well again."""
        await self.device.report(QUIET if self.name.startswith("sd-") else SIGNAL_REPORT)
        await self.platform.until(lambda: self.device.held == 0, 5.0, f"{self.name} gets its receipt")
        await self.platform.until(lambda: not self.faults(), 5.0, f"{self.name} is well again, but for {self.faults()}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Faulty]]:
    async with AsyncExitStack() as stack:
        platform = Platform(tmp_path_factory.mktemp("bad-input"), arc_port=free_port())
        platform.import_city(town(1, signals=1))
        stack.push_async_callback(platform.stop)
        await platform.start()
        detector = await stack.enter_async_context(await enrolled(platform, "sd-1"))
        signal = await stack.enter_async_context(await enrolled(platform, "ts-1"))
        found = {
            "fire": Faulty(platform, detector, "journal.db", "journal.db", "temperature"),
            "field": Faulty(platform, signal, "spool-1.db", "telemetry.db", "cycle_s"),
        }
        for faulty in found.values():
            await faulty.goes_on()
        yield found


@pytest.fixture(params=["fire", "field"])
def faulty(request: pytest.FixtureRequest, pair: dict[str, Faulty]) -> Faulty:
    return pair[request.param]


def message(seq: int, values: str, **more: object) -> bytes:
    """A reading of a boot of its own, with `values` as they stand: JSON has no word for NaN."""
    rest = "".join(f',"{key}":{json.dumps(value)}' for key, value in more.items())
    return f'{{"boot":"bad","seq":{seq},"values":{values}{rest}}}'.encode()


@pytest.mark.parametrize(
    ("reason", "payload"),
    [("not_json", b"\x00\xffsmoke=high"), ("schema", b'{"boot":"b","seq":0,"values":{}}'), ("oversized", MEGABYTE)],
    ids=["unparseable", "no number", "one megabyte"],
)
async def test_a_payload_of_no_use_is_quarantined_counted_and_shown(faulty: Faulty, reason: str, payload: bytes) -> None:
    before = faulty.counted(reason)
    faulty.device.send_as_is(payload)
    await faulty.sees(fault=f"refused:{reason}", words="Message refused")
    assert faulty.counted(reason) == before + 1
    query = "SELECT device, size FROM quarantine WHERE reason = ? ORDER BY id DESC LIMIT 1"
    ((device, size),) = faulty.platform.rows(faulty.lane_file, query, reason)
    assert device == faulty.name
    assert size == len(payload)


async def test_a_topic_of_another_domain_is_refused_and_shown(faulty: Faulty) -> None:
    before = faulty.counted("wrong_domain")
    faulty.device.send_as_is(message(1, "{}"), domain="water")
    await faulty.sees(fault="refused:wrong_domain", words="Message refused")
    assert faulty.counted("wrong_domain") == before + 1


async def test_a_device_that_nobody_registered_is_counted_and_the_lane_goes_on(faulty: Faulty) -> None:
    before = faulty.counted("unknown_device")
    faulty.device.send_as_is(message(1, "{}"), device="ghost-7")
    await faulty.platform.until(lambda: faulty.counted("unknown_device") == before + 1, 5.0, "counted")
    await faulty.goes_on()
    query = "SELECT topic, detail FROM quarantine WHERE reason = 'unknown_device'"
    ((topic, detail),) = faulty.platform.rows(faulty.lane_file, query)
    assert "ghost-7" in topic
    assert faulty.name in detail


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_a_number_that_is_none_costs_only_itself(faulty: Faulty, word: str) -> None:
    other = "battery" if faulty.point == "temperature" else "offset_s"
    seq = ["NaN", "Infinity", "-Infinity", "1e999"].index(word) + 1
    faulty.device.send_as_is(message(seq, f'{{"{faulty.point}":{word},"{other}":{40 + seq}}}'))
    await faulty.platform.until(lambda: last(faulty, other) == (40.0 + seq, "good", ""), 5.0, "the neighbour counts")
    assert last(faulty, faulty.point) == (None, "bad", "not_finite")
    await faulty.sees(fault=f"bad:{faulty.point}:not_finite", words=" is bad: ")


@pytest.mark.parametrize(("seq", "ts", "fault", "words"), [
    (11, YEAR_1970, "clock_past", "Clock behind"),
    (12, YEAR_2099, "clock_future", "Clock ahead"),
])  # fmt: skip
async def test_a_wrong_clock_is_flagged_and_the_reading_counts_as_of_now(
    faulty: Faulty, seq: int, ts: int, fault: str, words: str
) -> None:
    started_ms = faulty.platform.now_ms()
    faulty.device.send_as_is(message(seq, f'{{"{faulty.point}":{seq}}}', ts=ts))
    await faulty.platform.until(lambda: last(faulty, faulty.point) == (float(seq), "good", ""), 5.0, "the value counts")
    query = "SELECT observed_ms FROM latest WHERE device = ? AND point = ?"
    ((observed_ms,),) = faulty.platform.rows("telemetry.db", query, faulty.name, faulty.point)
    assert started_ms - 1000.0 <= observed_ms <= faulty.platform.now_ms() + 1000.0
    await faulty.sees(fault=fault, words=words)


async def test_one_bad_element_of_a_batch_is_refused_alone(faulty: Faulty) -> None:
    before = faulty.counted("schema")
    good = [json.loads(message(seq, f'{{"{faulty.point}":{seq}}}')) for seq in (21, 23)]
    faulty.device.send_as_is(json.dumps([good[0], {"boot": "bad", "seq": "no number"}, good[1]]).encode())
    await faulty.platform.until(lambda: last(faulty, faulty.point) == (23.0, "good", ""), 5.0, "its neighbours count")
    await faulty.platform.until(lambda: faulty.counted("schema") == before + 1, 5.0, "counted")
    ((payload,),) = faulty.platform.rows(
        faulty.lane_file, "SELECT payload FROM quarantine WHERE reason = 'schema' ORDER BY id DESC LIMIT 1"
    )
    assert json.loads(payload) == {"boot": "bad", "seq": "no number"}
    stored = faulty.platform.rows(faulty.lane_file, "SELECT above FROM progress WHERE device = ? AND boot = 'bad'", faulty.name)
    ranges = json.loads(stored[0][0])
    assert all(any(first <= seq <= last <= 23 for first, last in ranges) for seq in (21, 23))
    assert not any(first <= 22 <= last for first, last in ranges)
    await faulty.goes_on()


async def test_a_reading_found_retained_on_the_broker_is_refused_as_history(faulty: Faulty) -> None:
    """A broker that lost a lane's session keeps what is retained, and hands it out when the lane subscribes anew."""
    platform, before = faulty.platform, faulty.counted("retained")
    fire = faulty.lane_file == "journal.db"
    part, broker, cn = (
        ("fire", BrokerName.FIRE, "svc.fire.1.in") if fire else ("telemetry", BrokerName.FIELD, home.TELEMETRY_FIELD)
    )
    lane = psutil.Process(platform.pid(part))
    lane.suspend()
    try:
        await end_session(home.endpoint(check(platform.settings, "test"), broker, cn), cn)
        published = faulty.device.counters.as_is
        faulty.device.send_as_is(message(31, f'{{"{faulty.point}":31}}'), retain=True)
        await platform.until(lambda: faulty.device.counters.as_is > published, 5.0, "the broker has it")
    finally:
        lane.resume()
    await platform.until(lambda: faulty.counted("retained") == before + 1, 15.0, "refused as retained")
    assert last(faulty, faulty.point) != (31.0, "good", "")
    await faulty.sees(fault="refused:retained", words="Message refused")
    faulty.device.send_as_is(b"", retain=True)  # takes it off the broker; an empty payload is no reading either
    await platform.until(lambda: "refused:not_json" in faulty.faults(), 5.0, "the empty one is refused")
    await faulty.goes_on()


async def test_none_of_it_made_an_incident(pair: dict[str, Faulty]) -> None:
    assert await pair["fire"].platform.said("incidents") == []


async def end_session(endpoint: Endpoint, name: str) -> None:
    """Take over a service's session with its own certificate and leave none behind."""
    async with aiomqtt.Client(
        endpoint.host,
        endpoint.port,
        identifier=name,
        tls_context=endpoint.tls(),
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=True,
    ):
        pass


def last(faulty: Faulty, point: str) -> tuple[float | None, str, str] | None:
    """The last value of a point, its quality, and why."""
    query = "SELECT value, quality, why FROM latest WHERE device = ? AND point = ?"
    found = faulty.platform.rows("telemetry.db", query, faulty.name, point)
    return (found[0][0], found[0][1], found[0][2]) if found else None
