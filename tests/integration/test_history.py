"""The history of a device: over HTTP for programs, as small charts on its page."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from quart.typing import TestClientProtocol as Client

from iotcore.reading import Quality, Reading, Value
from tests.support.console import Console, console

NOW_MS = 1_795_312_800_000.0  # of the console's clock, a whole hour
MINUTE_MS = 60_000.0
URL = "/api/v1/devices/air-1/points/pm25/samples"


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Console]:
    async with console(tmp_path) as one:
        binding = one.directory.devices["air-1"]
        readings = [
            Reading("air-1", "b1", seq, "reading", at, at, (Value("pm25", float(seq)),))
            for seq in range(1, 61)
            if (at := NOW_MS - seq * MINUTE_MS)
        ]
        bad = Reading("air-1", "b1", 99, "reading", NOW_MS - 1, NOW_MS, (Value("pm25", None, Quality.BAD, "timeout"),))
        await one.store.write(b"\n".join(one.store.record(reading, binding) for reading in [*readings, bad]), 61)
        yield one


@pytest.fixture
async def client(made: Console) -> AsyncIterator[Client]:
    async with made.app.test_app():
        yield await made.client()


async def asked(client: Client, url: str, status: int = 200) -> dict[str, Any]:
    response = await client.get(url, headers={"Host": "localhost"})
    assert response.status_code == status
    kind = "application/json" if status == 200 else "application/problem+json"
    assert response.headers["Content-Type"] == kind
    found: dict[str, Any] = json.loads(await response.get_data(as_text=True))
    return found


async def test_a_program_gets_the_samples_of_a_day_unless_it_asks_for_another_range(client: Client) -> None:
    found = await asked(client, URL)
    assert (found["device"], found["point"], found["to_ms"] - found["from_ms"]) == ("air-1", "pm25", 86_400_000)
    assert len(found["samples"]) == 61
    assert found["samples"][-1] == {"at_ms": NOW_MS - 1, "value": None, "quality": "bad", "test": False}
    ranged = await asked(client, f"{URL}?from=2026-11-22T08:30:00%2B07:00&to={int(NOW_MS)}&limit=5")
    assert [one["value"] for one in ranged["samples"]] == [4.0, 3.0, 2.0, 1.0, None]
    assert ranged["from_ms"] == NOW_MS - 30 * MINUTE_MS
    assert (await asked(client, f"{URL}?from=2026-11-22T08:30:00+07:00"))["from_ms"] == ranged["from_ms"]


async def test_a_program_gets_means_of_intervals(client: Client) -> None:
    found = await asked(client, f"{URL}?every=30m&from=2026-11-22T01:00:00Z")
    assert found["every_ms"] == 1_800_000
    assert found["intervals"] == [
        {
            "start_ms": NOW_MS - 60 * MINUTE_MS, "mean": 45.5, "minimum": 31.0, "maximum": 60.0, "values": 30,
            "completeness": None,
        },
        {
            "start_ms": NOW_MS - 30 * MINUTE_MS, "mean": 15.5, "minimum": 1.0, "maximum": 30.0, "values": 30,
            "completeness": None,
        },
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "status", "reason", "says"),
    [
        ("/api/v1/devices/nobody/points/pm25/samples", 404, "not_found", "no such thing"),
        (f"{URL}?from=yesterday", 400, "bad_parameter", "2026-11-22T02:00:00Z"),
        (f"{URL}?from=2026-11-22T02:00:00", 400, "bad_parameter", "zone"),
        (f"{URL}?every=soon", 400, "bad_parameter", "as 5m"),
        (f"{URL}?limit=0", 400, "bad_parameter", "limit"),
        (f"{URL}?from={int(NOW_MS)}", 400, "bad_parameter", "before"),
        (f"{URL}?from=0&every=1s", 400, "too_many", "longer intervals"),
    ],
)
async def test_what_is_wrong_is_told_as_a_problem_document(client: Client, url: str, status: int, reason: str, says: str) -> None:
    found = await asked(client, url, status)
    assert found["type"] == f"urn:iotcore:problem:{reason}"
    assert found["status"] == status
    assert says in found["detail"]


async def test_a_point_that_has_no_samples_is_no_error(client: Client) -> None:
    assert (await asked(client, "/api/v1/devices/air-1/points/o3/samples"))["samples"] == []


async def test_a_foreign_host_name_gets_nothing(client: Client) -> None:
    assert (await client.get(URL, headers={"Host": "evil.example"})).status_code == 421


async def test_a_devices_page_shows_a_chart_of_each_number_in_both_languages(client: Client) -> None:
    for language, words in (("vi", "24 giờ qua"), ("en", "Last 24 hours")):
        response = await client.get("/devices/air-1", headers={"Host": "localhost", "Cookie": f"language={language}"})
        page = await response.get_data(as_text=True)
        assert words in page
        assert page.count('<svg class="chart"') == 1  # one number has values
        assert page.count("<polyline") == 1
        assert 'style="' not in page
    assert "lowest 1 · highest 60" in page


async def test_a_page_says_when_its_history_cannot_be_shown(client: Client, tmp_path: Path) -> None:
    for name in ("telemetry.db", "telemetry.db-wal", "telemetry.db-shm"):
        (tmp_path / name).rename(tmp_path / f"{name}.away")
    try:
        page = await (await client.get("/devices/air-1", headers={"Host": "localhost"})).get_data(as_text=True)
        assert "chưa có kho số liệu" in page
        found = await asked(client, URL, 503)
    finally:
        for name in ("telemetry.db", "telemetry.db-wal", "telemetry.db-shm"):
            (tmp_path / f"{name}.away").rename(tmp_path / name)
    assert found["type"] == "urn:iotcore:problem:no_database"
