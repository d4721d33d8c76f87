"""The command `iotcore noun verb`. Exit codes: 0 well, 1 something is wrong (said in one line), 2 the command line is."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from iotcore import (
    cli_acts,
    cli_audit,
    cli_backup,
    cli_broker,
    cli_ca,
    cli_commissioning,
    cli_coverage,
    cli_device,
    cli_field,
    cli_group,
    cli_import,
    cli_places,
    cli_quarantine,
    cli_registry,
    cli_response,
    cli_rule,
    cli_secret,
    cli_store,
    cli_telemetry,
    cli_token,
    cli_user,
)
from iotcore.errors import ConfigError, IotError
from iotcore.process.credentials import environment
from iotcore.settings import Settings, load

CONFIG_VARIABLE = "IOTCORE_CONFIG"
DEFAULT_CONFIG = "iotcore.toml"
PROCESSES = ("fire", "telemetry", "modbus", "web", "keeper", "broker-fire", "broker-field")
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, and turn every deliberate error into one clear line."""
    try:
        options = _parser().parse_args(arguments)
        logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)
        command: Callable[[argparse.Namespace], int] = options.command
        sys.exit(command(options))
    except ConfigError as error:
        sys.exit("\n".join(f"iotcore: {problem}" for problem in error.problems))
    except IotError as error:
        sys.exit(f"iotcore: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="iotcore", description="Device platform for smart cities, with an isolated fire lane.")
    nouns = parser.add_subparsers(required=True, metavar="COMMAND")
    _platform_commands(nouns)
    _registry_commands(nouns)
    _simulator_commands(nouns)
    cli_field.add(nouns, _command)
    cli_quarantine.add(nouns, _command, _settings)
    cli_registry.add(nouns, _command)
    cli_places.add(nouns, _command)
    cli_secret.add(nouns, _command)
    cli_store.add(nouns, _command)
    cli_audit.add(nouns, _command)
    cli_backup.add(nouns, _command)
    cli_device.add(nouns, _command)
    cli_commissioning.add(nouns, _command)
    cli_ca.add(nouns, _command)
    cli_broker.add(nouns, _command)
    cli_coverage.add(nouns, _command)
    cli_group.add(nouns, _command)
    cli_response.add(nouns, _command)
    cli_acts.add(nouns, _command)
    cli_rule.add(nouns, _command)
    cli_telemetry.add(nouns, _command)
    cli_token.add(nouns, _command)
    cli_import.add(nouns, _command, _settings)
    cli_user.add(nouns, _command)
    return parser


def _platform_commands(nouns: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    _command(nouns, "up", "run the whole platform on this machine", _up)
    _command(nouns, "init", "make or complete the data folder that `iotcore run` needs; `iotcore up` does it by itself", _init)
    run = _command(nouns, "run", "run one process of the platform", _run)
    run.add_argument("process", choices=PROCESSES)
    run.add_argument(
        "--worker", type=int, default=1, help="which fire replica or telemetry worker of the settings (default: %(default)s)"
    )
    doctor = _command(nouns, "doctor", "look at everything the platform stands on, and say what to do", _doctor)
    doctor.add_argument("-o", "--output", choices=("table", "json"), default="table")
    demo = _command(nouns, "demo", "the platform with a simulated city; one premises burns", _demo, config=False)
    demo.add_argument("--data", default=".demo", help="data folder (default: %(default)s)")
    demo.add_argument(
        "--once", action="store_true", help="one fire, then exit: 0 if the receiver acknowledged exactly one incident"
    )
    demo.add_argument("--json", action="store_true", help="with --once: print the timeline as JSON")
    demo.add_argument("--port", type=int, default=8080, help="of the page (default: %(default)s)")
    demo.add_argument("--brokers", choices=("auto", "mosquitto", "amqtt"), default="auto")
    demo.add_argument("--growth", choices=("slow", "medium", "fast", "ultra-fast"), default="ultra-fast", help="of the fire")
    _replay_options(demo, "--replay")


def _registry_commands(nouns: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    listing = _command(nouns, "devices", "list the devices", _devices)
    listing.add_argument("--group", default="", help="only the devices of a group")
    listing.add_argument("-o", "--output", choices=("table", "json"), default="table")
    incidents = _command(nouns, "incidents", "list incidents with their timelines", _incidents)
    incidents.add_argument("-o", "--output", choices=("table", "json"), default="table")
    for verb, text in (("acknowledge", "take an incident"), ("reset", "close an incident's episode")):
        act = _command(nouns, verb, text, _intend)
        act.add_argument("incident")
        act.add_argument("--by", default=os.environ.get("USER", "operator"))
        act.set_defaults(kind=verb)


def _simulator_commands(nouns: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sim = nouns.add_parser("sim", help="simulators").add_subparsers(required=True, metavar="COMMAND")
    enrol = _command(sim, "enrol", "enrol a device as it would itself: key, CSR, token, certificate", _sim_enrol)
    enrol.add_argument("device")
    enrol.add_argument("--token", required=True)
    enrol.add_argument("--folder", type=Path, default=Path("device"), help="where its key and certificate go")
    press = _command(sim, "press", "press the test button of a simulated fire device", _sim_press)
    press.add_argument("device")
    press.add_argument("--folder", type=Path, default=Path("device"), help="where its key and certificate are")
    press.add_argument("--token", default="", help="enrol it first")
    press.add_argument("--unmarked", action="store_true", help="forget the mark of a test: it is a real alarm")
    claim = _command(sim, "claim", "enrol a unit out of its box: it knows its serial and its secret", _sim_claim)
    claim.add_argument("serial")
    claim.add_argument("--secret", required=True)
    claim.add_argument("--folder", type=Path, default=Path("device"), help="where its key and certificate go")
    claim.add_argument("--wait", type=float, default=0.0, metavar="S", help="to be bound or approved, s (default: %(default)s)")
    page = _command(sim, "page", "a device's own page, on which a technician enters the enrolment token", _sim_page)
    page.add_argument("device")
    page.add_argument("--folder", type=Path, default=Path("device"), help="where its key and certificate go")
    page.add_argument("--host", default="127.0.0.1", help="where it listens (default: %(default)s)")
    page.add_argument("--port", type=int, default=8088, help="(default: %(default)s)")
    replay = _command(sim, "replay", "play a measured fire through a simulated detector", _sim_replay)
    _replay_options(replay, "file")
    replay.add_argument("--device", default="sd-replay", help="made and enrolled when it does not exist (default: %(default)s)")
    replay.add_argument("--offline", action="store_true", help="only ask the rules when they would alarm; no platform needed")

    run = _command(sim, "run", "play a scenario: devices, what they measure, when they misbehave", _sim_run)
    run.add_argument("scenario", help="a YAML file, or the name of a shipped one (air-day, kitchen-fire …)")
    run.add_argument("--speed", type=float, default=1.0, help="times as fast as life (default: %(default)s)")
    run.add_argument("--standalone", action="store_true", help="only open its Modbus units; no platform needed")
    run.add_argument("--vendor-broker", default="", metavar="HOST:PORT", help="where vendors' MQTT devices publish (plain TCP)")
    run.add_argument("--vendor-user", help="their user there, with the password in $IOTCORE_VENDOR_PASSWORD")
    run.add_argument("--host", default="127.0.0.1", help="where its Modbus units listen (default: %(default)s)")
    run.add_argument("--port", type=int, default=0, help="of the first bus, the others follow (default: any free ones)")


def _replay_options(parser: argparse.ArgumentParser, file: str) -> None:
    parser.add_argument(file, type=Path, metavar="FILE.csv")
    parser.add_argument("--time", default="TIME", help="column of the time, s (default: %(default)s)")
    parser.add_argument("--smoke", default="SMA_1", help="column of the smoke (default: %(default)s)")
    parser.add_argument("--temperature", default="TCA_1", help="column of the temperature, °C (default: %(default)s)")
    parser.add_argument("--smoke-unit", default="1/m-od10", help="1/m-od10, 1/m-ext, dB/m or %%/ft (default: %(default)s)")
    parser.add_argument("--speed", type=float, default=1.0, help="times as fast as life (default: %(default)s)")
    parser.add_argument("--baseline", type=float, default=0.0, help="seconds of quiet before the curve")


def _command(
    nouns: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    function: Callable[[argparse.Namespace], int],
    *,
    config: bool = True,
) -> argparse.ArgumentParser:
    parser = nouns.add_parser(name, help=text, description=text)
    parser.set_defaults(command=function)
    if config:
        default = os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG)
        parser.add_argument(
            "--config", type=Path, default=Path(default), help=f"settings (default: ${CONFIG_VARIABLE} or %(default)s)"
        )
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, environment(os.environ))


def _init(options: argparse.Namespace) -> int:
    from iotcore.app import common
    from iotcore.clock import SystemClock
    from iotcore.process import home

    settings = _settings(options)
    common.check(settings)
    home.prepare(settings, SystemClock())
    _say(f"{settings.folder} is ready: `iotcore run PROCESS`, or `iotcore up` for all of them")
    return 0


def _up(options: argparse.Namespace) -> int:
    from iotcore.commands.up import STOP_LIMIT_S, up
    from iotcore.process.serve import serve

    serve(up(_settings(options), options.config), cancel_again_s=STOP_LIMIT_S)
    return 0


def _run(options: argparse.Namespace) -> int:
    from iotcore.process import home
    from iotcore.process.serve import serve

    settings = _settings(options)
    home.check_finished(settings.folder)
    name: str = options.process
    if name.startswith("broker-"):
        from iotcore.process import brokers
        from iotcore.provision.acl import BrokerName

        serve(brokers.run(settings, BrokerName(name.removeprefix("broker-"))))
        return 0
    process = import_module(f"iotcore.app.{name}")  # its own imports only
    main = process.run(settings, options.worker) if name in {"fire", "telemetry"} else process.run(settings)
    serve(main, fast_loop=name in {"modbus", "web"})
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import doctor, doctor_site

    logging.getLogger().setLevel(logging.CRITICAL)
    settings = _settings(options)
    findings = asyncio.run((doctor_site if settings.gateway else doctor).examine(settings, SystemClock()))
    if options.output == "json":
        _say(json.dumps([finding.plain() for finding in findings], ensure_ascii=False, indent=2))
    else:
        for finding in findings:
            _say(f"{'ok  ' if finding.well else 'BAD '} {finding.name}: {finding.said}")
            if finding.remedy and not finding.well:
                _say(f"     → {finding.remedy}")
    return 0 if all(finding.well for finding in findings) else 1


def _demo(options: argparse.Namespace) -> int:
    from iotcore.commands.demo import Demo

    return Demo.from_options(options).run()


def _devices(options: argparse.Namespace) -> int:
    from iotcore.commands import groups, office

    rows = asyncio.run(office.devices(_settings(options)))
    if options.group:
        members = set(asyncio.run(groups.names(_settings(options), options.group)))
        rows = [row for row in rows if row["device"] in members]
    _table(rows, options.output)
    return 0


def _incidents(options: argparse.Namespace) -> int:
    from iotcore.commands import office

    _table(office.incidents(_settings(options)), options.output)
    return 0


def _intend(options: argparse.Namespace) -> int:
    from iotcore.commands import acting

    asyncio.run(acting.intend(_settings(options), options.kind, options.incident, options.by))
    return 0


def _sim_enrol(options: argparse.Namespace) -> int:
    from iotcore.commands import playground

    _say(asyncio.run(playground.enrol_device(_settings(options), options.device, options.token, options.folder)))
    return 0


def _sim_press(options: argparse.Namespace) -> int:
    from iotcore.commands import playground

    pressed = playground.press(_settings(options), options.device, options.token, options.folder, marked=not options.unmarked)
    _say(asyncio.run(pressed))
    return 0


def _sim_claim(options: argparse.Namespace) -> int:
    from iotcore.commands import playground

    claiming = playground.claim_unit(_settings(options), options.serial, options.secret, options.folder, options.wait)
    _say(asyncio.run(claiming))
    return 0


def _sim_page(options: argparse.Namespace) -> int:
    from iotcore.commands import playground
    from iotcore.process.serve import serve

    serve(playground.local_page(_settings(options), options.device, options.folder, options.host, options.port))
    return 0


def _sim_replay(options: argparse.Namespace) -> int:
    from iotcore.commands import playground

    measured = playground.measured_from(options)
    if options.offline:
        return playground.replay_offline(measured)
    return asyncio.run(playground.replay(_settings(options), measured, options.device))


def _sim_run(options: argparse.Namespace) -> int:
    from iotcore.commands.scenario_run import run
    from iotcore.process.serve import serve

    serve(run(None if options.standalone else _settings(options), options, os.environ.get("IOTCORE_VENDOR_PASSWORD")))
    return 0


def _table(rows: list[dict[str, object]], output: str) -> None:
    if output == "json":
        _say(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for row in rows:
        _say("  ".join(f"{key}={value}" for key, value in row.items() if value not in (None, "")))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
