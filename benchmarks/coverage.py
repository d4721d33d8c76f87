"""How long it takes to judge the coverage of a large city, and to know who is in ten groups: 10,000 key sites, 100,000 devices.

Pure work in memory, as the page and the telemetry worker do it.
`python -m benchmarks.coverage`; its last line is one JSON object.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import replace

from iotcore.registry import group_query
from iotcore.registry.coverage import DAY_MS, Signs, assess
from iotcore.registry.directory import Area, Binding, Directory, Premises
from iotcore.registry.groups import Group, Groups
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


def ten_groups() -> dict[str, Group]:
    """Old firmware of some wards, each with another version."""
    found = {}
    for i in range(10):
        of = [
            {"kind": "area", "is": [f"w{j}" for j in range(i, WARDS, 10)]},
            {"kind": "not", "of": {"kind": "state", "is": ["suspended"]}},
            {"kind": "firmware", "below": f"2.{i}"},
        ]
        document = group_query.read({"title": f"Group {i}", "query": {"kind": "all", "of": of}})
        found[f"g{i}"] = Group(f"g{i}", document, 1, "benchmark", NOW_MS)
    return found


def one_moved(directory: Directory) -> Directory:
    """The directory after a change of one device."""
    moved = replace(directory.devices["d7"], premises="p9")
    return replace(directory, devices={**directory.devices, "d7": moved})


def measure() -> dict[str, float]:
    """Milliseconds of the best of five runs each."""
    directory, signs = city()
    found = assess(directory, signs, float(NOW_MS))
    groups, firmware = ten_groups(), {name: f"2.{i % 20}.{i % 7}" for i, name in enumerate(directory.devices)}
    following = Groups()
    following.follow(groups, directory, firmware)
    directories = itertools.cycle((one_moved(directory), directory))
    work: dict[str, Callable[[], object]] = {
        "assess_ms": lambda: assess(directory, signs, float(NOW_MS)),
        "key_site_points_ms": lambda: key_site_points(found, NOW_MS),
        "device_points_ms": lambda: list(device_points(directory, signs, float(NOW_MS), NOW_MS)),
        "ten_groups_ms": lambda: Groups().follow(groups, directory, firmware),
        "ten_groups_after_one_change_ms": lambda: following.follow(groups, next(directories), firmware),
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
