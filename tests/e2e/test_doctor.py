"""`iotcore doctor` beside the running platform: all well, or what is bad and what to do about it, with exit code 1."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from iotcore import metrics_page
from iotcore.process.metrics_http import OFFSETS
from simulators.arc_receiver import ArcReceiver
from simulators.cad_receiver import CadReceiver
from tests.support.influx import Influxd
from tests.support.platform import ARC_KEY, SECRET, Platform
from tests.support.ports import free_ports_in_a_row
from tests.support.road import QUIET, enrolled, town

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

EVERYTHING = {
    "data folder", "clock", "certificates", "device certificates", "registry", "fire rules", "journal", "backup", "store",
    "fire broker",
    "field broker", "process fire", "process telemetry-1", "process telemetry-2", "process modbus", "process web",
    "process keeper", "supervision", "dispatch", "drills", "out of service", "receiver arc", "receiver cad",
}  # fmt: skip


def scrape(port: int) -> str:
    """What Prometheus would be told."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5.0) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return str(answer.read().decode())


@dataclass(frozen=True, slots=True)
class Clinic:
    """The platform and what it leans on."""

    platform: Platform
    influx: Influxd
    arc: ArcReceiver
    cad: CadReceiver

    async def findings(self, *, code: int) -> dict[str, dict[str, Any]]:
        """What the doctor says, by name; it must end with this exit code."""
        return {finding["name"]: finding for finding in await self.platform.said("doctor", code=code)}

    async def bad(self) -> dict[str, dict[str, Any]]:
        """What the doctor finds bad, as soon as it finds anything bad."""
        found = await self.findings(code=1)
        bad = {name: finding for name, finding in found.items() if not finding["well"]}
        assert all(finding["remedy"] and finding["said"] for finding in bad.values())
        return bad


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clinic(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Clinic]:
    folder: Path = tmp_path_factory.mktemp("doctor")
    async with AsyncExitStack() as stack:
        influx = stack.enter_context(Influxd(folder))
        arc = await stack.enter_async_context(ArcReceiver(key=ARC_KEY))
        cad = await stack.enter_async_context(CadReceiver(SECRET))
        platform = Platform(folder, arc_port=arc.port, cad_url=cad.url, store={"kind": "influx1", "url": influx.url})
        split = [{"domains": ["fire", "air", "gateway"]}, {"domains": ["water", "traffic"]}]
        platform.configure(metrics={"port": free_ports_in_a_row(10)}, telemetry=split)
        platform.import_city(town(1))
        stack.push_async_callback(platform.stop)
        await platform.start()
        yield Clinic(platform, influx, arc, cad)


async def test_all_is_well_in_a_running_platform(clinic: Clinic) -> None:
    found = await clinic.findings(code=0)
    assert {name for name, finding in found.items() if finding["well"]} == set(found) == EVERYTHING
    assert all(finding["remedy"] == "" for finding in found.values())


async def test_every_process_serves_metrics_by_documented_names_and_none_names_a_device(clinic: Clinic) -> None:
    platform = clinic.platform
    async with await enrolled(platform, "sd-1") as detector:
        await detector.report(QUIET)
        await platform.until(lambda: detector.held == 0, 10.0, "the reading is receipted")
    documented = {row.name: set(row.labels) for row in metrics_page.rows()}
    base, scraped = platform.settings["metrics"]["port"], dict[str, float]()
    for process in (*platform.parts, "broker-fire", "broker-field"):
        text = await asyncio.to_thread(scrape, base + OFFSETS[process])
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.startswith("iotcore_"):
                    name = sample.name if sample.name in documented else sample.name.rpartition("_")[0]
                    assert set(sample.labels) - {"le"} == documented[name], sample
                assert "sd-1" not in sample.labels.values(), sample
                scraped[f"{process} {sample.name} {' '.join(value for _, value in sorted(sample.labels.items()))}"] = sample.value
    assert scraped["fire iotcore_lane_readings_stored_total fire"] == 1.0
    assert scraped["fire iotcore_mqtt_connected fire fire"] == 1.0
    assert scraped["telemetry-2 iotcore_mqtt_connections_total field telemetry"] == 1.0
    assert scraped["telemetry-1 iotcore_mqtt_connected stray telemetry"] == 1.0
    for process in ("fire", "telemetry-1", "telemetry-2", "modbus", "web", "keeper", "broker-fire"):
        assert scraped[f"{process} process_resident_memory_bytes "] > 1e6
        assert scraped[f"{process} iotcore_process_loop_lag_seconds_count "] > 0
        assert scraped[f"{process} iotcore_process_started_seconds {process}"] > 0


async def test_a_dead_store_is_bad(clinic: Clinic) -> None:
    clinic.influx.stop()
    try:
        assert set(bad := await clinic.bad()) == {"store"}
        assert "store.url" in bad["store"]["remedy"]
    finally:
        await asyncio.to_thread(clinic.influx.start)


async def test_dead_receivers_are_bad(clinic: Clinic) -> None:
    await clinic.arc.__aexit__(None, None, None)
    await clinic.cad.__aexit__(None, None, None)
    try:
        assert set(bad := await clinic.bad()) == {"receiver arc", "receiver cad"}
        assert all("listens" in finding["remedy"] for finding in bad.values())
    finally:
        await clinic.arc.__aenter__()
        await clinic.cad.__aenter__()


@pytest.mark.parametrize(("name", "lane"), [("fire", "fire"), ("field", "telemetry")])
async def test_a_broker_that_does_not_answer_is_bad_and_so_is_the_lane_without_it(clinic: Clinic, name: str, lane: str) -> None:
    mosquitto = psutil.Process(clinic.platform.pid(f"mosquitto {name}"))
    mosquitto.suspend()
    try:
        bad = await clinic.bad()
        assert f"{name} broker" in bad
        assert f"brokers.{name}" in bad[f"{name} broker"]["remedy"]
        assert "store" not in bad
        other = "field" if name == "fire" else "fire"
        assert f"{other} broker" not in bad
    finally:
        mosquitto.resume()
    await clinic.platform.until(
        lambda: clinic.platform.ready(since_ms=clinic.platform.now_ms() - 1500.0), 20.0, f"{lane} is back"
    )


async def test_a_process_that_hangs_is_bad(clinic: Clinic) -> None:
    keeper = psutil.Process(clinic.platform.pid("keeper"))
    keeper.suspend()
    try:
        await clinic.platform.until(lambda: not clinic.platform.beating("keeper"), 10.0, "it has fallen silent")
        assert set(bad := await clinic.bad()) == {"process keeper"}
        assert "iotcore up" in bad["process keeper"]["remedy"]
    finally:
        keeper.resume()


async def test_without_the_platform_everything_that_should_run_is_bad_and_nothing_else(clinic: Clinic) -> None:
    await clinic.platform.stop()
    expected = {name for name in EVERYTHING if name.startswith("process ") or name.endswith(" broker")} | {"supervision"}
    await clinic.platform.until(lambda: not clinic.platform.beating("fire"), 10.0, "the last beat is old")
    assert set(await clinic.bad()) == expected
