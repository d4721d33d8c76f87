"""The platform with registry and journal on a real PostgreSQL: a fire's road to both receivers, acts, a server that was away."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.platform import Platform
from tests.support.postgres import Postgres
from tests.support.road import SMOKE, enrolled, receivers, town

pytestmark = pytest.mark.timeout(180)


async def test_a_fire_is_one_incident_told_to_both_receivers_and_reset(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await asyncio.to_thread(stack.enter_context, Postgres())
        url = server.url(server.fresh())
        told = await stack.enter_async_context(receivers())
        platform = Platform(tmp_path, arc_port=told.arc_port, cad_url=told.cad.url)
        platform.configure(journal={"url": url}, registry={"url": url})
        await asyncio.to_thread(platform.import_city, town(1))
        stack.push_async_callback(platform.stop)
        await platform.start()
        detector = await stack.enter_async_context(await enrolled(platform, "sd-1"))
        for _ in range(3):
            await detector.report(SMOKE)
        await platform.until(lambda: bool(told.frames and told.cad.taken), 15.0, "both receivers have it")
        await platform.until(lambda: detector.held == 0, 5.0, "all is receipted")
        (incident,) = await platform.said("incidents")
        assert told.arc_incidents() == told.cad_incidents() == [incident["incident"]]
        assert incident["durable_ms"] is not None
        findings = {one["name"]: one for one in await platform.said("doctor")}
        assert findings["journal"]["said"] == "on PostgreSQL; nothing waits for a receiver"
        assert not (platform.data / "journal.db").exists()
        await asyncio.to_thread(platform.iotcore, "acknowledge", incident["incident"])
        await asyncio.to_thread(platform.iotcore, "reset", incident["incident"])
        await platform.until(lambda: told.cad_incidents("restore") == [incident["incident"]], 15.0, "it is called off")
        (after,) = await platform.said("incidents")
        assert (after["state"], after["acknowledged_ms"] is not None) == ("closed", True)
        server.pause()
        findings = {one["name"]: one for one in await platform.said("doctor", code=1)}
        assert not findings["journal"]["well"]
        server.resume()
        await platform.until(lambda: platform.ready(since_ms=after["closed_ms"]), 60.0, "everything is back")
        await platform.until(platform.ready, 30.0, "and stays")
        for _ in range(3):
            await detector.report(SMOKE)
        await platform.until(lambda: len(set(told.cad_incidents())) == 2, 30.0, "the next fire is told")
