"""`iotcore commissioning check`: is a Modbus unit the one of its spec, and does every register make sense? Kept for the page.

A few units tell who they are (function code 43/14), some their firmware in a register, many nothing: then a person compares the
nameplate. The judging is pure.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from drivers.modbus.connection import serial_of
from drivers.modbus.identify import identify
from iotcore.clock import SystemClock
from iotcore.commands.modbus_asking import How, Words, address_of, asking, remedy
from iotcore.commands.modbus_tools import layout_of
from iotcore.errors import IotError, StartError
from iotcore.reading import Quality, Value
from iotcore.registry.commissioning import Commissioning, Told
from iotcore.registry.directory import Binding
from iotcore.specs import decode, plan, repeat
from iotcore.specs.model import DeviceSpec, ModbusLimits
from iotcore.web.checklist import Step, named

WORD = re.compile(r"[a-z0-9]{3,}")
EVERYBODYS = frozenset(
    {"modbus", "tcp", "rtu", "gateway", "unit", "device", "sensor", "detector", "generic", "profile", "the", "over"}
)


def identity(spec: DeviceSpec, told: Mapping[str, str], version: str, *, known: bool, nameplate_seen: bool) -> Step:
    """Whether it is a unit of this spec: by its maker's name, or by the firmware that it tells and the spec knows.

    `version` is what the unit itself told; `known`: the spec has a layout for it.
    """
    said = ", ".join([f"{name} {text}" for name, text in told.items()] + ([f"firmware {version}"] if version else []))
    if version and not known:
        return Step("identity", "failed", "wrong_identity", {"said": said, "expected": f"firmware {_versions(spec)}"})
    names = _words(" ".join(told.values()))
    if names and not names & _words(f"{spec.vendor} {spec.title} {spec.model}"):
        return Step("identity", "failed", "wrong_identity", {"said": said, "expected": f"{spec.vendor}: {spec.title}"})
    if names or version:
        return Step("identity", "done", values={"said": said})
    if nameplate_seen:
        return Step("identity", "done", values={"said": "nameplate"})
    return Step("identity", "waiting", "nameplate")


def plausible(values: Sequence[Value]) -> Step:
    """Whether every point was read and is good."""
    bad = [f"{one.point} ({one.why or one.quality.value})" for one in values if one.quality is not Quality.GOOD]
    if bad or not values:
        return Step("plausible", "failed", "bad_points", named(bad))
    return Step("plausible", "done", values={"count": len(values)})


async def check(made: Commissioning, binding: Binding, how: How, by: str, *, nameplate_seen: bool) -> tuple[Step, Step]:
    """Ask the unit, judge the answers, keep the outcome with the device.

    Raises:
        StartError: the device is no Modbus unit, or its connection makes no sense.
        IotError: the unit does not answer at all; nothing is kept.
    """
    spec = binding.spec
    if spec.protocol != "modbus":
        raise StartError(f"{binding.device} is no Modbus unit", "Its steps are seen from what it sends: `commissioning status`.")
    found = await _asked(binding.connection, spec, how, nameplate_seen=nameplate_seen)
    body: dict[str, Any] = {
        step.name: {"condition": step.condition, "reason": step.reason, "values": dict(step.values)} for step in found
    }
    await made.add(Told(secrets.token_hex(16), binding.device, "modbus", int(SystemClock().wall_ms()), body), by)
    return found


async def _asked(connection: str, spec: DeviceSpec, how: How, *, nameplate_seen: bool) -> tuple[Step, Step]:
    address = address_of(connection)
    try:
        spec = repeat.narrow(spec, dict(address.ranges))
    except ValueError as error:
        raise StartError(str(error), "Mend its connection in the registry.") from error
    words: Words = {}
    failures: dict[str, str] = {}
    whys: list[str] = []
    async with asking(address, how, spec) as asker:
        layout, version, why = await layout_of(asker, spec, address.firmware, words)
        whys += [why] if why else []
        for request in plan.requests(layout) if layout is not None else ():
            if said := await asker.into(request, words):
                whys.append(said)
                failures |= {point: failures.get(point, said) for point in request.points}
    if not words and whys:
        raise IotError(f"{connection} does not answer: {whys[0]}: {remedy(whys[0])}")
    values = () if layout is None else decode.values(layout, words, failures)
    limits = spec.modbus or ModbusLimits()
    told = await identify(address, serial_of(address, limits), how.timeout_s or limits.timeout_s)
    own = "" if address.firmware else version  # one that stands in the connection is a person's word
    who = identity(spec, told, own, known=layout is not None, nameplate_seen=nameplate_seen)
    return who, plausible(values)


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.lower())) - EVERYBODYS


def _versions(spec: DeviceSpec) -> str:
    known: Any = spec.firmware
    return ", ".join((*known.base, *(version for one in known.revisions for version in one.versions))) if known else ""
