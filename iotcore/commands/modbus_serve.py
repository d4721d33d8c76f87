"""A simulated unit on this machine, from its spec: to try a configuration against before the real unit is there."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from iotcore.errors import ConfigError, Problem, StartError
from iotcore.reading import Scalar
from iotcore.specs.model import DeviceSpec, Point
from simulators.modbus_device import ModbusDevice, ModbusLine, ModbusServer

ON = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the unit is to be met: a TCP port (MBAP frames, or RTU frames), or a pseudo-terminal."""

    host: str = "127.0.0.1"
    port: int = 5020
    device_id: int = 1
    pty: bool = False
    rtu: bool = False
    firmware: str = ""


def values_of(spec: DeviceSpec, settings: Sequence[str]) -> dict[str, Scalar | None]:
    """What each point shows: what was set by "point=value", else a plausible value.

    Raises:
        ConfigError: with everything that is wrong with the settings.
    """
    values: dict[str, Scalar | None] = {name: _plausible(point) for name, point in spec.points.items()}
    problems = []
    for setting in settings:
        name, equals, text = setting.partition("=")
        point = spec.points.get(name)
        if point is None or not equals:
            known = ", ".join(list(spec.points)[:20])
            problems.append(Problem("--set", setting, f"is not point=value; points are: {known}"))
            continue
        try:
            values[name] = _value(point, text)
        except ValueError as error:
            problems.append(Problem("--set", setting, str(error)))
    if problems:
        raise ConfigError(problems)
    return values


async def serve(spec: DeviceSpec, values: Mapping[str, Scalar | None], place: Place) -> None:
    """Answer until the process is told to end."""
    try:
        unit = ModbusDevice(spec, firmware_version=place.firmware)
    except ValueError as error:
        raise StartError(str(error), "Leave --firmware out.") from error
    problems = []
    for name, value in values.items():
        try:
            unit.set(name, value)
        except (ValueError, KeyError) as error:
            problems.append(Problem("--set", f"{name}={value}", str(error)))
    if problems:
        raise ConfigError(problems)
    async with AsyncExitStack() as stack:
        if place.pty:
            line = await stack.enter_async_context(ModbusLine({place.device_id: unit}))
            connection = line.connection(place.device_id)
        else:
            server = ModbusServer(
                {place.device_id: unit}, host=place.host, port=place.port, framing="rtu" if place.rtu else "tcp"
            )
            await stack.enter_async_context(server)
            connection = server.connection(place.device_id)
        sys.stdout.write(f"{spec.title} answers at {connection}\nCtrl-C ends it\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def _plausible(point: Point) -> Scalar | None:
    """A value that the point can have; the middle of its range."""
    if point.kind == "number":
        return 0.0 if point.range is None else round(sum(point.range) / 2, 1)
    if point.kind == "bool":
        return False
    return next(iter(point.states.values()), "") if point.kind == "enum" else ""


def _value(point: Point, text: str) -> Scalar | None:
    if text == "none":
        return None
    if point.kind == "bool":
        if text.lower() not in ON:
            raise ValueError(f"{text!r} is neither on nor off")
        return ON[text.lower()]
    if point.kind == "number":
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"{text!r} is no number") from None
    return text
