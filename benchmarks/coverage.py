"""How long it takes to judge the coverage of a large city: 10,000 key sites, 100,000 devices.

Pure work in memory, as the page and the telemetry worker do it.
`python -m benchmarks.coverage`; its last line is one JSON object.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from iotcore.registry.coverage import DAY_MS, Signs, assess
from iotcore.registry.directory import Area, Binding, Directory, Premises
from iotcore.specs.load import load_folder, shipped_folder
from iotcore.telemetry.coverage import device_points, key_site_points

SITES = 10_000
DEVICES = 100_000
WARDS = 166  # communes and wards of a province
NOW_MS = 1_795_312_800_000


def city() -> tuple[Directory, Signs]:
    """Ten fire devices a site; a third of them tested lately, a third long ago, a third never; each tenth is silent."""
    spec = load_folder(shipped_folder())["iotcore-smoke-heat"]
    areas = {"th": Area("th", "province", "Thanh Hóa")} | {
        f"w{i}": Area(f"w{i}", "ward", f"Phường {i}", "th") for i in range(WARDS)
    }
    premises = {
        f"p{i}": Premises(f"p{i}", f"Cơ sở {i}", "x", 19.8, 105.7, "1001", key_site=True, area=f"w{i % WARDS}")
        for i in range(SITES)
    }
    tested = (NOW_MS - 30 * DAY_MS, NOW_MS - 500 * DAY_MS, None)
    devices = {
        f"d{i}": Binding(
            f"d{i}", f"Đầu báo {i}", spec, "fire", f"d{i}", "active", f"p{i % SITES}", tested_ms=tested[i % SITES % 3]
        )
        for i in range(DEVICES)
    }
    seen = {name: float(NOW_MS) for i, name in enumerate(devices) if i % 10}
    return Directory(devices, premises, {}, areas), Signs(seen)


def measure() -> dict[str, float]:
    """Milliseconds of the best of five runs each."""
    directory, signs = city()
    found = assess(directory, signs, float(NOW_MS))
    work: dict[str, Callable[[], object]] = {
        "assess_ms": lambda: assess(directory, signs, float(NOW_MS)),
        "key_site_points_ms": lambda: key_site_points(found, NOW_MS),
        "device_points_ms": lambda: list(device_points(directory, signs, float(NOW_MS), NOW_MS)),
    }
    return {"key_sites": SITES, "devices": DEVICES, **{name: _best_ms(run) for name, run in work.items()}}


def _best_ms(run: Callable[[], object]) -> float:
    spans = []
    for _ in range(5):
        begun_s = time.perf_counter()
        run()
        spans.append(time.perf_counter() - begun_s)
    return round(min(spans) * 1000.0, 1)


if __name__ == "__main__":
    print(json.dumps(measure()))
