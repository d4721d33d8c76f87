"""`iotcore spec …` and `iotcore modbus …`: what a technician and an engineer do with specs and with units in the field."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from iotcore.errors import StartError
from iotcore.specs.model import ByteOrder, DeviceClass, RawType, Table

Command = Callable[..., argparse.ArgumentParser]
Nouns = Any  # argparse names the type of a sub-command's home privately
FITTED = re.compile(r"(?:([a-z]{1,12})=)?([0-9]{1,5})(?:-([0-9]{1,5}))?\Z")


def add(nouns: Nouns, command: Command) -> None:
    """Add both nouns; `command` makes a parser for one verb, as `cli` does."""
    _spec_commands(nouns.add_parser("spec", help="device specs").add_subparsers(required=True, metavar="COMMAND"), command)
    modbus = nouns.add_parser("modbus", help="Modbus units").add_subparsers(required=True, metavar="COMMAND")
    _reading(modbus, command)
    _finding(modbus, command)
    _writing(modbus, command)
    _serving(modbus, command)


def _spec_commands(verbs: Nouns, command: Command) -> None:
    check = command(verbs, "check", "say everything that is wrong with specs", _check, config=False)
    check.add_argument("paths", type=Path, nargs="+", metavar="FOLDER|FILE")
    _output(check)
    plan = command(verbs, "plan", "how a unit is read, and what of a bus that takes", _plan, config=False)
    plan.add_argument("model", metavar="MODEL|FILE.yaml")
    _specs(plan)
    plan.add_argument("--baud", type=int, help="of the serial line (default: the unit's own)")
    plan.add_argument("--parity", choices=("N", "E", "O"))
    plan.add_argument("--tcp", action="store_true", help="on a network: bytes, and no time on a line")
    plan.add_argument("--loop", metavar="1-2", help="the same as --fitted loop=1-2")
    plan.add_argument("--fitted", action="append", default=[], metavar="INDEX=1-2", help="only these of what the spec repeats")
    _output(plan)
    importing = command(verbs, "import", "a draft spec from another platform's Modbus configuration", _import, config=False)
    importing.add_argument("kind", choices=("telegraf", "edgex", "thingsboard"))
    importing.add_argument("file", type=Path)
    importing.add_argument("--model", required=True, help="name of the model: small letters, digits and -")
    importing.add_argument("--vendor", required=True)
    importing.add_argument("--class", dest="device_class", required=True, choices=get_args(DeviceClass))
    importing.add_argument("--title", default="")
    importing.add_argument("--unit", default="", help="which unit, when the file has several")
    importing.add_argument("--interval", type=float, help="seconds between readings (default: the file's)")
    importing.add_argument(
        "-o", "--out", type=Path, metavar="FILE.yaml", help="default: standard output, the report on the other"
    )


def _reading(verbs: Nouns, command: Command) -> None:
    read = command(verbs, "read", "read a unit: its points by a spec, or bare registers", _read, config=False)
    read.add_argument("connection", metavar="CONNECTION")
    read.add_argument("--model", metavar="MODEL|FILE.yaml", help="decode by this spec")
    _specs(read)
    _registers(read, kind="uint16")
    read.add_argument("--count", type=int, default=1, help="values; of a string, registers (default: %(default)s)")
    read.add_argument("--byte-order", choices=get_args(ByteOrder), default="ABCD")
    _asking(read)
    _output(read)
    order = command(verbs, "sniff-order", "which byte order gives plausible, steady values", _sniff, config=False)
    order.add_argument("connection", metavar="CONNECTION")
    _registers(order, kind="float32")
    order.add_argument("--near", type=float, help="what the unit's display shows")
    order.add_argument("--range", metavar="LO,HI", help="between what the value must be; --range=-5,40 for a negative one")
    order.add_argument("--samples", type=int, default=5, help="(default: %(default)s)")
    order.add_argument("--every", type=float, default=0.5, help="seconds between samples (default: %(default)s)")
    _asking(order)


def _finding(verbs: Nouns, command: Command) -> None:
    scan = command(verbs, "scan", "which device ids answer, and what they say they are", _scan, config=False)
    scan.add_argument("place", metavar="HOST[:PORT]|/dev/tty…|CONNECTION")
    scan.add_argument("--ids", default="1-247", help="device ids (default: %(default)s)")
    _asking(scan)
    _output(scan)


def _writing(verbs: Nouns, command: Command) -> None:
    write = command(verbs, "write", "write what an allow-list names, once, and see that it was taken", _write)
    write.add_argument("connection", metavar="CONNECTION")
    write.add_argument("--model", default="", help="must be the allow-list's own, when it is given")
    _specs(write)
    what = write.add_mutually_exclusive_group(required=True)
    what.add_argument("--command", dest="target", nargs=2, metavar=("NAME", "VALUE"), help="a command of the spec")
    what.add_argument("--register", dest="target", nargs=2, metavar=("NAME", "VALUE"), help="a register of the allow-list")
    write.add_argument("--allow", type=Path, metavar="FILE", help="the allow-list (default: modbus_allow of the settings)")
    write.add_argument("--by", default=os.environ.get("USER", ""), help="who asks for it (default: $USER)")
    write.add_argument("--second", default="", help="who else does, where two people must")
    write.add_argument("--id", default="", help="of the request: the same id is never written twice (default: a new one)")
    _asking(write, timeout=False)
    _output(write)


def _serving(verbs: Nouns, command: Command) -> None:
    serve = command(verbs, "serve", "be a unit, made from its spec, on this machine", _serve, config=False)
    serve.add_argument("model", metavar="MODEL|FILE.yaml")
    _specs(serve)
    serve.add_argument("--host", default="127.0.0.1", help="(default: %(default)s)")
    serve.add_argument("--port", type=int, default=5020, help="0: any free one (default: %(default)s)")
    where = serve.add_mutually_exclusive_group()
    where.add_argument("--pty", action="store_true", help="RTU on a pseudo-terminal instead of a port")
    where.add_argument("--rtu-tcp", action="store_true", help="RTU frames on the port, as a serial server has them")
    serve.add_argument("--id", type=int, default=1, help="device id (default: %(default)s)")
    serve.add_argument("--firmware", default="", help="the version that it tells")
    serve.add_argument("--set", action="append", default=[], metavar="POINT=VALUE", help="what a point shows; none: no value")


def _registers(parser: argparse.ArgumentParser, kind: str) -> None:
    parser.add_argument("--table", choices=get_args(Table), default="holding")
    parser.add_argument("--address", type=int, help="0-based: what documents call 40001 is 0")
    parser.add_argument("--type", choices=get_args(RawType), default=kind)


def _specs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--specs", type=Path, metavar="FOLDER", help="specs to choose from (default: those of iotcore)")


def _asking(parser: argparse.ArgumentParser, *, timeout: bool = True) -> None:
    if timeout:
        parser.add_argument("--timeout", type=float, help="seconds for an answer (default: the spec's)")
    parser.add_argument("--certs", type=Path, metavar="FOLDER", help="certificates for tls://")


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")


def _check(options: argparse.Namespace) -> int:
    from iotcore.commands import spec_tools

    return spec_tools.check(options.paths, options.output)


def _plan(options: argparse.Namespace) -> int:
    from iotcore.commands import spec_tools

    spec = spec_tools.modbus_spec(options.model, options.specs)
    serial = None if options.tcp else spec_tools.serial_of(spec, options.baud, options.parity)
    wanted = [*options.fitted, *([f"loop={options.loop}"] if options.loop else [])]
    return spec_tools.show_plan(spec, serial, dict(map(_fitted, wanted)), options.output)


def _import(options: argparse.Namespace) -> int:
    from iotcore.commands import spec_tools
    from iotcore.specs.importers.draft import Wanted

    wanted = Wanted(options.model, options.vendor, options.device_class, options.title, options.unit, options.interval)
    return spec_tools.show_import(spec_tools.import_file(options.kind, options.file, wanted), options.out)


def _read(options: argparse.Namespace) -> int:
    from iotcore.commands import modbus_tools, spec_tools

    _quiet()
    if options.model:
        spec = spec_tools.modbus_spec(options.model, options.specs)
        return asyncio.run(modbus_tools.read_model(options.connection, spec, _how(options)))
    return asyncio.run(
        modbus_tools.read_raw(options.connection, _wanted(options, options.count, options.byte_order), _how(options))
    )


def _sniff(options: argparse.Namespace) -> int:
    from iotcore.commands import modbus_tools
    from iotcore.specs.sniff import Hint

    _quiet()
    if options.type in ("bit", "string") or options.table in ("coil", "discrete"):
        raise StartError(
            "A bit and a text have no byte order to look for", "Name a --type of two or more bytes in holding or input."
        )
    hint = None
    if options.near is not None or options.range:
        hint = Hint(options.near, _span(options.range) if options.range else None)
    samples = (max(1, options.samples), max(0.0, options.every))
    how = _how(options)
    return asyncio.run(modbus_tools.sniff_order(options.connection, _wanted(options, 1, "ABCD"), hint, samples, how))


def _scan(options: argparse.Namespace) -> int:
    from iotcore.commands import modbus_scan

    _quiet()
    try:
        ids = modbus_scan.ids_of(options.ids)
    except ValueError as error:
        raise StartError(f"--ids {error}", "Give numbers and ranges, joined by commas.") from error
    return asyncio.run(modbus_scan.scan(options.place, ids, _how(options)))


def _write(options: argparse.Namespace) -> int:
    from drivers.modbus.write import Attempt
    from iotcore.commands import modbus_writing, spec_tools
    from iotcore.process.credentials import environment
    from iotcore.settings import load

    _quiet()
    settings = load(options.config, environment(os.environ)) if options.config.exists() else None
    folder = options.specs or (Path(settings.specs) if settings is not None and settings.specs else None)
    allowed, path = modbus_writing.load_allowed(options.allow, settings, spec_tools.specs(folder))
    name, value = options.target
    attempt = Attempt(options.id or secrets.token_hex(8), name, value, options.by, options.second)
    wish = modbus_writing.Wish(options.connection, attempt, options.model)
    return asyncio.run(modbus_writing.write(wish, allowed, path.parent, settings, _how(options)))


def _serve(options: argparse.Namespace) -> int:
    from iotcore.commands import modbus_serve, spec_tools
    from iotcore.process.serve import serve

    _quiet()
    spec = spec_tools.modbus_spec(options.model, options.specs)
    place = modbus_serve.Place(options.host, options.port, options.id, options.pty, options.rtu_tcp, options.firmware)
    serve(modbus_serve.serve(spec, modbus_serve.values_of(spec, options.set), place))
    return 0


def _how(options: argparse.Namespace) -> Any:
    from iotcore.commands.modbus_asking import How

    timeout_s = getattr(options, "timeout", None)
    if timeout_s is not None and not timeout_s > 0.0:
        raise StartError(f"--timeout {timeout_s} is not greater than 0", "Give seconds, such as 0.5.")
    return How(timeout_s, options.certs, getattr(options, "output", "table"))


def _wanted(options: argparse.Namespace, count: int, order: ByteOrder) -> Any:
    from iotcore.commands.modbus_tools import Wanted

    if options.address is None or not 0 <= options.address <= 65_535 or not 1 <= count <= 65_536:  # noqa: PLR2004 - as Modbus has them
        raise StartError("--address is not said, or no address", "Name the first with --address 0, and --count, or a --model.")
    kind: RawType = "bit" if options.table in ("coil", "discrete") else "uint16" if options.type == "bit" else options.type
    return Wanted(options.table, options.address, count, kind, order)


def _span(text: str) -> tuple[float, float]:
    low, _, high = text.partition(",")
    try:
        found = (float(low), float(high))
    except ValueError:
        found = (1.0, 0.0)
    if not found[0] <= found[1]:
        raise StartError(f"--range {text!r} is not LO,HI", "Give two numbers, the lower first: --range 0,14.")
    return found


def _fitted(text: str) -> tuple[str, tuple[int, int]]:
    found = FITTED.match(text)
    if found is None or not found[1]:
        raise StartError(f"--fitted {text!r} is not INDEX=FIRST-LAST", "Like loop=1-2, for two loops of what the spec repeats.")
    return found[1], (int(found[2]), int(found[3] or found[2]))


def _quiet() -> None:
    """What the libraries log is said better by the command itself."""
    logging.getLogger().setLevel(logging.CRITICAL)
