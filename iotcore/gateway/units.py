"""The units file of a gateway at a site: what the registry is beside the core. YAML or TOML, refused whole with every problem.

units:
  - id: panel-1                                   # as the core's registry knows it, with this gateway as its parent
    title: Tủ báo cháy nhà A
    model: notifier-nfs2-3030                     # a spec; its class says whether it is a fire unit
    connection: tcp://10.0.0.5:502?device_id=1
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from iotcore.errors import ConfigError, Problem
from iotcore.registry.directory import Binding, Directory
from iotcore.specs import repeat, yaml12
from iotcore.specs.model import DeviceSpec
from iotcore.strict import convert
from iotcore.wire import modbus_address
from iotcore.wire.topics import DOMAIN_OF_CLASS

MAX_FILE_BYTES = 1024 * 1024  # our own limit: some thousand units
Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)", description="as a certificate name: no dot")]


class Unit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Modbus unit of the site."""

    id: Id
    title: Annotated[str, Meta(min_length=1, max_length=200)]
    model: str
    connection: str


class Units(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    units: list[Unit]


def read(path: Path, gateway: str, specs: Mapping[str, DeviceSpec]) -> Directory:
    """The units of `gateway` as a directory.

    Raises:
        ConfigError: with every problem of the file.
    """
    name = path.name
    units = convert(_document(path), Units, name).units
    problems = [
        Problem(name, f"units[{number}].{key}", reason)
        for number, unit in enumerate(units)
        for key, reason in _problems(unit, gateway, specs)
    ]
    ids = [unit.id for unit in units]
    problems += [Problem(name, "units", f"two are named {one!r}") for one in sorted({one for one in ids if ids.count(one) > 1})]
    if problems:
        raise ConfigError(problems)
    return Directory({unit.id: _binding(unit, gateway, specs[unit.model]) for unit in units})


def _document(path: Path) -> Any:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError([Problem(str(path), "", f"cannot be read: {error.strerror}; see gateway.units")]) from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError([Problem(path.name, "", f"is larger than {MAX_FILE_BYTES} bytes")])
    try:
        text = content.decode("utf-8")
        return tomllib.loads(text) if path.suffix == ".toml" else yaml12.parse(text)
    except ValueError as error:  # of UTF-8, of TOML, of YAML
        raise ConfigError([Problem(path.name, "", str(error))]) from error


def _problems(unit: Unit, gateway: str, specs: Mapping[str, DeviceSpec]) -> Iterator[tuple[str, str]]:
    if unit.id == gateway:
        yield "id", f"{gateway!r} is the gateway itself"
    spec = specs.get(unit.model)
    if spec is None:
        yield "model", f"no spec {unit.model!r}"
    elif spec.protocol != "modbus":
        yield "model", f"{unit.model} does not speak Modbus but {spec.protocol}"
    try:
        address = modbus_address.parse(unit.connection)
        if spec is not None:
            repeat.narrow(spec, dict(address.ranges))
    except ValueError as error:
        yield "connection", str(error)


def _binding(unit: Unit, gateway: str, spec: DeviceSpec) -> Binding:
    domain = DOMAIN_OF_CLASS[spec.device_class]
    return Binding(unit.id, unit.title, spec, domain, gateway, "active", connection=unit.connection)
