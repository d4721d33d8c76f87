"""A gateway at a site against the whole platform: enrolled by itself for both brokers, a fire through it, kill -9, renewal.

One platform and one panel serve all tests of this file, in their order.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509

from iotcore.clock import ManualClock, SystemClock
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.identity import load, new_key, store
from simulators.modbus_device import ModbusDevice, ModbusServer
from tests.support.platform import Platform
from tests.support.road import GATEWAY, STATION, Receivers, receivers, town
from tests.support.shipped import SPECS
from tests.support.site_gateway import PANEL, PANEL_DEVICE, SiteGateway, specs_with_panel

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

DAY_MS = 86_400_000.0
SETTLE_S = 60.0  # what lost its receipt is sent again after 30 s
GW, OTHER = "gw-7", "gw-8"


@dataclass(frozen=True, slots=True)
class City:
    """Everything that runs: `site` polls panel-1 and air-7; panel-2 belongs to a gateway that does not run."""

    platform: Platform
    receivers: Receivers
    panel: ModbusDevice
    foreign: ModbusServer
    other_panel: ModbusDevice
    site: SiteGateway

    async def until(self, condition: Any, limit_s: float, what: str) -> None:
        """Wait; fail with what both sides said."""
        try:
            await self.platform.until(condition, limit_s, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n--- the gateway:\n{self.site.log()}\n{self.site.said()}") from None

    def faults(self, device: str) -> set[str]:
        """What is wrong with a device, as the fire lane has it."""
        found = self.platform.rows("journal.db", "SELECT reason FROM fault WHERE device = ? AND cleared_ms IS NULL", device)
        return {reason for (reason,) in found}


def _document(panel: str, station: str, foreign: str) -> dict[str, Any]:
    document = town(2)
    panels = ((1, GW, panel), (2, OTHER, foreign))
    document["devices"] += [
        *({"id": name, "title": name, "model": GATEWAY} for name in (GW, OTHER, "modbus-1")),
        {"id": "air-7", "title": "Trạm", "model": STATION, "parent": GW, "connection": station},
        *(
            {
                "id": f"panel-{i}",
                "title": f"Tủ {i}",
                "model": PANEL,
                "premises": f"p{i}",
                "zone": f"p{i}-z1",
                "parent": parent,
                "connection": connection,
            }
            for i, parent, connection in panels
        ),
    ]
    return document


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def city(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[City]:
    folder: Path = tmp_path_factory.mktemp("site")
    async with AsyncExitStack() as stack:
        told = await stack.enter_async_context(receivers())
        panel = ModbusDevice(PANEL_DEVICE, {"alarm": False, "zone_2": False, "battery": 97})
        bus = await stack.enter_async_context(ModbusServer({1: panel}))
        station = await stack.enter_async_context(ModbusServer({1: ModbusDevice(SPECS[STATION])}))
        other_panel = ModbusDevice(PANEL_DEVICE, {"alarm": False, "zone_2": False, "battery": 97})
        foreign = await stack.enter_async_context(ModbusServer({1: other_panel}))
        platform = Platform(folder, arc_port=told.arc_port, cad_url=told.cad.url)
        platform.configure(specs=str(specs_with_panel(folder)))
        platform.import_city(_document(bus.connection(), station.connection(), foreign.connection()))
        stack.push_async_callback(platform.stop)
        await platform.start()
        tokens = {
            f"{anchor}_token": await asyncio.to_thread(platform.iotcore, "token", "create", GW) for anchor in ("fire", "field")
        }
        units = [
            {"id": "panel-1", "title": "Tủ 1", "model": PANEL, "connection": bus.connection()},
            {"id": "air-7", "title": "Trạm", "model": STATION, "connection": station.connection()},
        ]
        site = SiteGateway(folder, platform, GW, units, **tokens)
        stack.push_async_callback(site.stop)
        await site.start()
        yield City(platform, told, panel, foreign, other_panel, site)


async def test_it_enrols_itself_for_both_brokers_and_everything_it_reads_is_receipted(city: City) -> None:
    site = city.site
    await city.until(site.up, 40.0, "connected to both brokers")
    await city.until(site.receipted, SETTLE_S, "all is receipted")
    for anchor in ("fire", "field"):
        identity = load(site.data / "certs" / f"{GW}-{anchor}.pem", GW)
        assert identity is not None
        issuing = x509.load_pem_x509_certificate((city.platform.data / "ca" / anchor / "1" / "issuing.pem").read_bytes())
        identity.certificate.verify_directly_issued_by(issuing)
    bulk = "SELECT DISTINCT device FROM progress"
    await city.until(lambda: {("air-7",), (GW,)} <= set(city.platform.rows("spool-1.db", bulk)), 10.0, "the rest has come too")
    assert city.platform.rows("journal.db", "SELECT DISTINCT device FROM reading") == [("panel-1",)]
    assert not (site.data / "ca").exists()
    assert not (site.data / "registry.db").exists()
    assert not city.platform.rows("journal.db", "SELECT * FROM quarantine")
    assert not city.platform.rows("spool-1.db", "SELECT * FROM quarantine")


async def test_its_own_readings_say_how_it_is(city: City) -> None:
    def told() -> dict[str, float]:
        rows = city.platform.rows("telemetry.db", "SELECT point, value FROM latest WHERE device = ?", GW)
        return dict(rows)

    def connected() -> bool:
        return told().get("fire_connected") == told().get("field_connected") == 1.0

    await city.until(connected, 15.0, "its readings are stored")
    health = told()
    assert health["units"] == 2.0
    assert health["units_failing"] == health["fire_evicted"] == health["not_kept"] == health["reserve_kept"] == 0.0
    assert health["reserve_ready"] == 1.0
    assert 89.0 < health["fire_certificate_days"] <= 90.0


async def test_the_doctor_on_the_gateway_finds_it_well(city: City) -> None:
    findings = await city.site.doctor()
    wanted = {"units", "fire certificate", "field certificate", "process modbus", "modbus units", "outbox"}
    assert {name for name, well in findings.items() if well} >= wanted


async def test_nobody_polls_the_units_of_another_gateway(city: City) -> None:
    assert city.platform.beating("modbus")  # modbus-1 runs beside the core, and has no children
    assert city.foreign.connections == 0


async def test_a_fire_at_its_panel_is_one_incident_and_kill_9_in_the_middle_loses_nothing(city: City) -> None:
    site, told, platform = city.site, city.receivers, city.platform
    city.panel.set("alarm", value=True)
    await city.until(lambda: bool(told.frames and told.cad.taken), 10.0, "both receivers have the alarm")
    await site.kill()
    await city.until(lambda: "offline" in city.faults("panel-1"), 5.0, "its will is the trouble of the panel")
    assert "offline" in city.faults(GW)
    await asyncio.sleep(1.0)
    assert "offline" in city.faults("panel-1")
    await site.start()
    await city.until(lambda: "offline" not in city.faults("panel-1") | city.faults(GW), 30.0, "a live reading ends it")
    for _ in range(3):
        await city.until(site.up, 30.0, "connected")
        await site.kill()
        await site.start()
    await city.until(site.receipted, SETTLE_S, "all is receipted")
    (incident,) = await platform.said("incidents")
    assert set(told.arc_incidents()) == set(told.cad_incidents()) == {incident["incident"]}
    await site.stop()
    ((numbered,),) = site.rows("outbox-fire.db", "SELECT seq FROM sqlite_sequence WHERE name = 'held'")
    ((held,),) = site.rows("outbox-fire.db", "SELECT count(*) FROM held")
    tracks = platform.rows("journal.db", "SELECT up_to, above, lost FROM progress WHERE device = 'panel-1'")
    stored = sum(up_to + len(json.loads(above)) for up_to, above, _ in tracks)
    assert sum(lost for *_, lost in tracks) == 0
    assert numbered - held <= stored <= numbered
    assert len(tracks) == 5
    await city.until(lambda: "offline" in city.faults("panel-1"), 5.0, "a goodbye is a trouble too")


async def test_beside_the_core_a_fire_unit_registered_meanwhile_goes_to_the_fire_broker(city: City) -> None:
    platform, told = city.platform, city.receivers
    assert not (platform.data / "certs" / "modbus-1-fire.pem").exists()
    panel = {"id": "panel-3", "title": "Tủ 3", "model": PANEL, "premises": "p2", "zone": "p2-z1", "parent": "modbus-1"}
    await asyncio.to_thread(platform.import_city, {"devices": [{**panel, "connection": city.foreign.connection()}]})
    await city.until(
        lambda: ("panel-3",) in platform.rows("journal.db", "SELECT DISTINCT device FROM reading"),
        20.0,
        "its readings came",
    )
    issuing = x509.load_pem_x509_certificate((platform.data / "ca" / "fire" / "1" / "issuing.pem").read_bytes())
    identity = load(platform.data / "certs" / "modbus-1-fire.pem", "modbus-1")
    assert identity is not None
    identity.certificate.verify_directly_issued_by(issuing)
    issued = platform.rows("registry.db", "SELECT anchor FROM certificate WHERE cn = 'modbus-1' ORDER BY anchor")
    assert issued == [("field",), ("fire",)]
    before = set(told.arc_incidents())
    city.other_panel.set("alarm", value=True)
    await city.until(lambda: len(set(told.arc_incidents()) - before) == 1, 10.0, "its alarm is an incident of its own")


async def test_past_half_life_it_renews_both_certificates_and_goes_on_without_a_trouble(city: City) -> None:
    """It starts with certificates that the platform made 60 days ago: due at 45 to 54."""
    site, platform = city.site, city.platform
    past = ManualClock(now_ms=SystemClock().wall_ms() - 60 * DAY_MS)
    passphrase = (platform.data / "ca" / "passphrase").read_bytes().strip()
    authority = await asyncio.to_thread(Authority.open, platform.data / "ca", passphrase, past)
    old = {}
    for anchor in (Anchor.FIRE, Anchor.FIELD):
        key = new_key(GW)
        issued = x509.load_pem_x509_certificate(authority.issue_device(anchor, key.public, GW).pem)
        old[anchor] = store(site.data / "certs" / f"{GW}-{anchor.value}.pem", key, issued).certificate
    before = platform.rows("journal.db", "SELECT sum(count) FROM fault WHERE device = 'panel-1' AND reason = 'offline'")
    await site.start()

    def renewed(anchor: Anchor) -> bool:
        found = load(site.data / "certs" / f"{GW}-{anchor.value}.pem", GW)
        return found is not None and found.certificate != old[anchor] and found.expires_ms - SystemClock().wall_ms() > 89 * DAY_MS

    await city.until(lambda: all(renewed(anchor) for anchor in old), 30.0, "both are renewed")
    await city.until(lambda: "offline" not in city.faults("panel-1"), 10.0, "the panel is back")
    await city.until(site.receipted, SETTLE_S, "all is receipted")
    replaced = "SELECT count(DISTINCT c.anchor) FROM certificate_superseded s JOIN certificate c ON c.serial = s.certificate_id"
    told = f"{replaced} WHERE c.cn = '{GW}'"
    await city.until(lambda: platform.rows("registry.db", told) == [(2,)], 10.0, "the core has heard that both have connected")
    assert site.said()["gateway"]["fire_certificate_days"] > 89.0
    assert platform.rows("journal.db", "SELECT sum(count) FROM fault WHERE device = 'panel-1' AND reason = 'offline'") == before
    await site.stop()
    findings = await site.doctor()
    for _ in range(10):  # its last beat is believed for some seconds
        if not findings["process modbus"]:
            break
        await asyncio.sleep(1.0)
        findings = await site.doctor()
    assert not findings["process modbus"]
    assert findings["fire certificate"]
    names = {path.name for path in (site.data / "certs").iterdir()}
    assert names == {f"{GW}-fire.pem", f"{GW}-field.pem"}
