"""Who lives on the fire benchmark's site: detectors that burn one by one, and a storm's premises with many points each.

single    each point a detector with a certificate of its own
gateway   one certificate speaks for its children: a message for each point
panel     one certificate, one device: an array of as many events as it has zones
field     signal controllers, which alarm nobody: they only reconnect
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.fleet import Client, Say
from iotcore.clock import SystemClock
from iotcore.provision import custody
from iotcore.provision.ca import Anchor, Authority
from simulators.city import DETECTOR_MODEL, GATEWAY, GATEWAY_MODEL, SIGNAL_MODEL

Kind = Literal["single", "gateway", "panel"]
Entry = dict[str, Any]

SITE_FLOOD_DEVICES = ("tl-flood-1", "tl-flood-2")
FIRST_STORM_ACCOUNT = 5000
PANEL_MODEL = "benchmark-panel"
ALARM = {"smoke": 0.02, "temperature": 31.5, "alarm": True, "battery": 97}  # one point: a second is an update, a frame more
SHARES: tuple[Kind, ...] = ("single", "single", "gateway", "panel")  # of premises, in turn


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many premises of so many points each, and so many field devices."""

    premises: int = 0
    points: int = 0
    field: int = 0

    def homes(self) -> Iterator[tuple[str, Kind]]:
        """The premises, and how each speaks."""
        return ((f"s-{n:04}", SHARES[n % len(SHARES)]) for n in range(1, self.premises + 1))

    def document(self) -> dict[str, list[Entry]]:
        """All of it as a city document."""
        homes = list(self.homes())
        return {
            "premises": [_premises(name, f"{FIRST_STORM_ACCOUNT + n}") for n, (name, _) in enumerate(homes, 1)],
            "zones": [_zone(name) for name, _ in homes],
            "devices": [entry for name, kind in homes for entry in self._devices(name, kind)]
            + [{"id": name, "title": name, "model": SIGNAL_MODEL} for name in self._field()],
        }

    def _field(self) -> list[str]:
        return [f"tl-{n:05}" for n in range(1, self.field + 1)]

    def _names(self, home: str) -> list[str]:
        return [f"{home}-{n:02}" for n in range(1, self.points + 1)]

    def _devices(self, home: str, kind: Kind) -> list[Entry]:
        place = {"premises": home, "zone": f"{home}-z1"}
        if kind == "panel":
            return [{"id": f"{home}-panel", "title": "Tủ báo cháy", "model": PANEL_MODEL, **place}]
        parent = {"parent": f"{home}-gateway"} if kind == "gateway" else {}
        found = [{"id": name, "title": name, "model": DETECTOR_MODEL, **place, **parent} for name in self._names(home)]
        return [*([{"id": parent["parent"], "title": "Cổng", "model": GATEWAY_MODEL}] if parent else []), *found]

    def clients(self, ports: tuple[int, int], data: Path, folder: Path) -> list[Client]:
        """Every certificate, issued now by the platform's own authority; ports of the fire and the field broker."""
        issued = _Issued(data, folder)
        fire, field = ports
        found = []
        for home, kind in self.homes():
            names = self._names(home)
            if kind == "single":
                found += [
                    Client(name, fire, *issued.files(Anchor.FIRE, name), "fire", home, [Say(name, [ALARM])]) for name in names
                ]
            elif kind == "gateway":
                name = f"{home}-gateway"
                says = [Say(child, [ALARM]) for child in names]
                found.append(Client(name, fire, *issued.files(Anchor.FIRE, name), "gateway", home, says))
            else:
                name = f"{home}-panel"
                says = [Say(name, [{f"zone{n}_alarm": True} for n in range(1, self.points + 1)])]
                found.append(Client(name, fire, *issued.files(Anchor.FIRE, name), "fire", home, says))
        return found + [Client(name, field, *issued.files(Anchor.FIELD, name), "traffic") for name in self._field()]


def detectors(premises: int) -> dict[str, list[Entry]]:
    """Premises with one zone and one smoke detector each, and the devices that flood."""
    names = [f"{n:04}" for n in range(1, premises + 1)]
    return {
        "premises": [_premises(f"p-{n}", n) for n in names],
        "zones": [_zone(f"p-{n}") for n in names],
        "devices": [
            {"id": f"sd-{n}", "title": f"Đầu báo {n}", "model": DETECTOR_MODEL, "premises": f"p-{n}", "zone": f"p-{n}-z1"}
            for n in names
        ]
        + [{"id": name, "title": "Flood", "model": SIGNAL_MODEL} for name in SITE_FLOOD_DEVICES]
        + [{"id": GATEWAY, "title": "Cổng Modbus", "model": GATEWAY_MODEL}],
    }


def panel_spec(zones: int) -> str:
    """A panel that speaks the wire contract itself."""
    points = "\n".join(
        f"  zone{n}_alarm: {{kind: bool, title: {{vi: Khu vực {n}, en: Zone {n}}}}}" for n in range(1, max(1, zones) + 1)
    )
    return f"""model: {PANEL_MODEL}
vendor: iotcore
title: Panel of the fire benchmark
device_class: fire_panel
protocol: canonical
source: "benchmarks/fire_city.py"
verified: No product; made for a benchmark.
interval_s: 10
points:
{points}
"""


class _Issued:
    """Certificates as files: what enrolment would have brought, thousands of them."""

    def __init__(self, data: Path, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._trust = data / "certs" / "service-root.pem"
        self._authority = Authority.open(data / "ca", custody.passphrase(data / "ca", os.environ), SystemClock())

    def files(self, anchor: Anchor, name: str) -> tuple[str, str, str]:
        """Whom it trusts, its certificate, its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert_file, key_file = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        cert_file.write_bytes(self._authority.issue_device(anchor, key.public_key(), name).pem)
        plain = serialization.NoEncryption()
        key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
        return str(self._trust), str(cert_file), str(key_file)


def _premises(name: str, account: str) -> Entry:
    return {
        "id": name,
        "name": f"Nhà {name}",
        "address": f"Số {int(account)}",
        "latitude": 19.8,
        "longitude": 105.8,
        "account": account,
    }


def _zone(premises: str) -> Entry:
    return {"id": f"{premises}-z1", "premises": premises, "number": 1, "floor": "Tầng 1", "name": "Bếp"}
