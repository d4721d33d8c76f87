"""Where it happens: the registry's directory and the settings of a simulated run."""

from __future__ import annotations

from pathlib import Path

from iotcore.registry.directory import Binding, Directory, Disablement, Premises, Target, Walk, Zone
from iotcore.registry.response import DEFAULT, Delay, Response
from iotcore.settings import Fire, Settings
from iotcore.settings_receivers import WebhookReceiver
from tests.simulated.script import T1_S, T2_S, Script
from tests.simulated.virtual import VirtualClock
from tests.support.shipped import SPECS

WAITS = Response(asked_by="the fire service", delay=Delay(t1_s=T1_S, t2_s=T2_S))


def settings(folder: Path, script: Script) -> Settings:
    """Of a platform with two receivers, one of them perhaps on two paths; their addresses are never used."""
    ways = {"arc": "arc-b" if script.alternate else ""}
    receivers = [
        WebhookReceiver(name=name, url="https://receiver.invalid", secret="s", alternate=ways.get(name, ""))
        for name in script.receivers
    ]
    return Settings(data=str(folder), receivers=list(receivers), fire=Fire(replicas=script.replicas))


def directory(script: Script, clock: VirtualClock) -> Directory:
    """The script's devices as the registry has them, and what has been put out of service until now."""
    devices, places, zones, responses = {}, {}, {}, {}
    for number, (place, names) in enumerate(script.premises.items(), 1):
        places[place] = Premises(place, f"Nhà {number}", "Thanh Hóa", 19.8, 105.77, f"{number:04d}")
        zones[f"{place}-z"] = Zone(f"{place}-z", place, 1, "1", "Sảnh")
        responses[place] = WAITS if place in script.delayed else DEFAULT
        for name in names:
            spec = SPECS["iotcore-call-point" if "-cp" in name else "iotcore-smoke-heat"]
            devices[name] = Binding(name, name, spec, "fire", name, "active", place, f"{place}-z")
    disabled: dict[str, Disablement] = {}
    walks: dict[str, Walk] = {}
    for number, one in enumerate(script.outages):
        if one.at_s > clock.monotonic_s():
            continue
        id_, from_ms = f"out-{number}", int(clock.wall_at_ms(one.at_s))
        until_ms = from_ms + int((one.until_s - one.at_s) * 1000.0)
        if one.kind == "walk":
            walks[id_] = Walk(id_, one.premises, f"{one.premises}-z", "officer", from_ms, until_ms)
        else:
            target = Target(one.kind, one.subject)
            disabled[id_] = Disablement(id_, target, one.premises, "works", "officer", from_ms, until_ms, from_ms)
    return Directory(devices, places, zones, responses=responses, disablements=disabled, walks=walks)
