"""The test button of a simulated fire device: a quiet reading, a marked alarm, quiet again; or an alarm that forgets its mark."""

from __future__ import annotations

import asyncio
import time

from iotcore.errors import IotError
from iotcore.specs.model import DeviceSpec
from iotcore.wire.messages import Scalar
from simulators.mqtt_device import MqttDevice

QUIET: dict[str, Scalar] = {"smoke": 0.01, "temperature": 25.0, "battery": 97.0}  # dB/m, °C, %
ALARMS = ("alarm", "pressed", "fire")  # what a fire device's own decision is called in the specs of our own contract
POLL_S = 0.005


def quiet(spec: DeviceSpec) -> dict[str, Scalar | None]:
    """What the device tells when nothing happens: every point of its spec."""
    return {name: False if point.kind == "bool" else QUIET.get(name, 0.0) for name, point in spec.points.items()}


def pressed(spec: DeviceSpec) -> dict[str, Scalar | None]:
    """The same while somebody presses its button.

    Raises:
        IotError: the model has no alarm of its own.
    """
    own = {name: True for name, point in spec.points.items() if point.kind == "bool" and name in (*ALARMS, "button")}
    if not own.keys() & set(ALARMS):
        raise IotError(f"{spec.model} has no alarm of its own: it has no test button")
    return quiet(spec) | own


async def press(device: MqttDevice, *, marked: bool = True, within_s: float = 20.0) -> float:
    """Press it once; seconds from the press until the platform has receipted the alarm.

    Raises:
        IotError: it was not, in that time.
    """
    await device.report(quiet(device.spec))
    began_s = time.monotonic()
    before = device.counters.receipted + device.held
    await device.report(pressed(device.spec), test=marked)
    while device.counters.receipted <= before:
        if time.monotonic() - began_s > within_s:
            raise IotError(f"{device.device} has no receipt after {within_s:g} s: {device.last_error or 'is the platform up?'}")
        await asyncio.sleep(POLL_S)
    took_s = time.monotonic() - began_s
    await device.report(quiet(device.spec), test=marked)
    while device.held and time.monotonic() - began_s <= within_s:  # noqa: ASYNC110 - the platform's doing
        await asyncio.sleep(POLL_S)
    return took_s
