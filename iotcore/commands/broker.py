"""`iotcore broker …`: the configuration of a Mosquitto that somebody else runs, written, tried, installed, and taken back.

made ─► tried on a Mosquitto of our own ─► installed, old files kept ─► reload or restart ─► asked ─┬─► done
                                                                                                    └─► the old files
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from iotcore.app import common
from iotcore.clock import Clock
from iotcore.commands import office
from iotcore.commands.broker_asking import round_trip
from iotcore.errors import IotError, StartError
from iotcore.process import home
from iotcore.provision import broker, mosquitto, vendor_access
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker_process import BrokerProcess
from iotcore.provision.ca import Authority
from iotcore.provision.files import PUBLIC_MODE, SECRET_MODE, make_folder, write_whole
from iotcore.provision.mosquitto import Form, Release
from iotcore.settings import Settings

COMMAND_LIMIT_S = 30.0
ANSWER_LIMIT_S = 10.0
BEFORE = "before"  # in the folder: the files that were replaced last
CONFIGURATION = "mosquitto.conf"
PUBLIC = frozenset({CONFIGURATION, "trust.pem", "crl.pem", "server.pem"})
OURS = "It is written anew at each start: iotcore up, or iotcore run broker-{}. To write it elsewhere, give --to FOLDER."


@dataclass(frozen=True, slots=True)
class Target:
    """Where a broker's files go, and how it comes to read them.

    `at`: where the files will be when it runs (another machine, a container). `release`: of that Mosquitto; `plugins`: where its
    plugins are. `reload` and `restart` are commands; without `restart` a changed mosquitto.conf is only written.
    """

    folder: Path
    at: Path
    release: Release
    plugins: Path | None = None
    reload: Sequence[str] = ()
    restart: Sequence[str] = ()
    untried: bool = False

    @property
    def form(self) -> Form:
        return mosquitto.form_for(self.release, mosquitto.find_mosquitto(), self.plugins)


def installed() -> Release:
    """The release of the Mosquitto on this machine; that of Debian 12 where there is none."""
    program = mosquitto.find_mosquitto()
    return mosquitto.release_of(program) if program else mosquitto.OLD


def config(settings: Settings, name: BrokerName, target: Target) -> str:
    """mosquitto.conf, as text; nothing is written."""
    return broker.configuration(_home(settings, name, target), target.form, as_root=False, at=target.at)


async def apply(settings: Settings, name: BrokerName, target: Target, clock: Clock) -> list[str]:
    """Write what differs into the folder, have the broker read it, and take it back when it is not well with it; in lines.

    Raises:
        StartError: the broker is ours by the settings; it was tried and refused (nothing is installed); or it was taken back.
    """
    files = await _made(settings, name, target, clock)
    before = {file: (target.folder / file).read_bytes() for file in files if (target.folder / file).exists()}
    changed = sorted(file for file, content in files.items() if before.get(file) != content)
    if not changed:
        return [f"{target.folder}: nothing has changed"]
    if not target.untried:
        await asyncio.to_thread(_try, settings, name, target, files)
    _keep(target.folder, before)
    _install(target.folder, {file: files[file] for file in changed})
    done = [f"{target.folder}: {', '.join(changed)} written; those before are in {target.folder / BEFORE}"]
    command = _command(target, changed)
    if not command:
        needed = "restart" if CONFIGURATION in changed else "reload (SIGHUP)"
        return [*done, f"the broker has to {needed} to take it up"]
    trouble = await _taken_up(settings, name, command, clock)
    if not trouble:
        return [*done, f"{' '.join(command)}: the {name.value} broker answers"]
    _take_back(target.folder, before, changed)
    again = await _taken_up(settings, name, command, clock)
    state = f"and it does not answer with those either: {again}" if again else "and it answers"
    raise StartError(
        f"The {name.value} broker is not well with the new files: {trouble}. The files before are in place again, {state}",
        "See the broker's log; what was refused is made by: iotcore broker config.",
    )


async def _made(settings: Settings, name: BrokerName, target: Target, clock: Clock) -> dict[str, bytes]:
    """Every file, by name. The server's certificate and key are kept while they are good."""
    if home.broker_settings(settings, name).run != "external":
        raise StartError(f"We run the {name.value} broker ourselves, by the settings", OURS.format(name.value))
    place, authority = _home(settings, name, target), home.authority(settings, clock)
    async with office.opened(settings) as registry:
        directory, credentials = await registry.directory(common.specs_of(settings)), await registry.credentials()
    access = vendor_access.made(directory, credentials, name)
    files = {
        file: content.encode()
        for file, content in vendor_access.contents(name, access, passwords=bool(place.password_port)).items()
    }
    del files[vendor_access.REMEMBERED]  # for our own broker process
    certificate, key = _server(authority, place)
    trust, lists = broker.trusted(authority, name)
    files |= {place.trust.name: trust, place.crl.name: lists, place.certificate.name: certificate, place.key.name: key}
    return {**files, CONFIGURATION: config(settings, name, target).encode()}


def _server(authority: Authority, place: broker.BrokerHome) -> tuple[bytes, bytes]:
    if broker.has_server(authority, place):
        return place.certificate.read_bytes(), place.key.read_bytes()
    pair = authority.issue_service(broker.SERVER_CN.format(place.name.value), broker.server_names(place))
    return pair.certificate.pem, pair.key_pem


def _home(settings: Settings, name: BrokerName, target: Target) -> broker.BrokerHome:
    return replace(home.broker_home(settings, name), folder=target.folder)


def _try(settings: Settings, name: BrokerName, target: Target, files: Mapping[str, bytes]) -> None:
    """Start a Mosquitto of ours with these files, on free ports of loopback.

    Raises:
        StartError: it is of another release, or refuses them; says what.
    """
    if target.release != installed() or target.plugins is not None or mosquitto.find_mosquitto() is None:
        raise StartError(
            "These files cannot be tried here: they are for another Mosquitto than this machine has",
            "Try them where it runs, or give --untried.",
        )
    with tempfile.TemporaryDirectory(prefix="iotcore-broker-") as temporary:
        folder = Path(temporary).resolve()
        ports = [broker.free_port() for _ in range(2)]
        place = replace(
            _home(settings, name, target), folder=folder, host="127.0.0.1", port=ports[0],
            password_port=ports[1] if _home(settings, name, target).password_port else 0,
        )  # fmt: skip
        for file, content in files.items():
            write_whole(folder / file, content, SECRET_MODE)
        text = broker.configuration(place, target.form, as_root=os.geteuid() == 0, at=folder)
        write_whole(place.configuration, text.encode())
        with BrokerProcess(place):
            pass


def _keep(folder: Path, before: Mapping[str, bytes]) -> None:
    """Put the files that are there aside, in place of those of the last time."""
    kept = folder / BEFORE
    shutil.rmtree(kept, ignore_errors=True)
    make_folder(kept)
    for file, content in before.items():
        _write(kept / file, content)


def _install(folder: Path, files: Mapping[str, bytes]) -> None:
    make_folder(folder)
    for file, content in files.items():
        _write(folder / file, content)


def _take_back(folder: Path, before: Mapping[str, bytes], changed: Sequence[str]) -> None:
    for file in changed:
        if file in before:
            _write(folder / file, before[file])
        else:
            (folder / file).unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    """Whole, and of the folder's owner: a broker that was started as root reads its files anew as somebody else."""
    write_whole(path, content, PUBLIC_MODE if path.name in PUBLIC else SECRET_MODE)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _command(target: Target, changed: Sequence[str]) -> Sequence[str]:
    """A reload takes up acl, passwords, trust, lists and certificates; nothing else of mosquitto.conf that matters here."""
    return target.restart if CONFIGURATION in changed else target.reload or target.restart


async def _taken_up(settings: Settings, name: BrokerName, command: Sequence[str], clock: Clock) -> str:
    """Have the broker read its files and ask it; "" when it is well, else what is wrong."""
    try:
        done = await asyncio.to_thread(_run, command)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{' '.join(command)}: {error}"
    if done.returncode:
        return f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}"
    try:
        return (await round_trip(settings, name, clock, ANSWER_LIMIT_S)).trouble
    except TimeoutError:
        return f"a message to ourselves did not come back in {ANSWER_LIMIT_S:.0f} s"
    except (IotError, OSError) as error:
        return str(error)


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False)  # noqa: S603 - the operator's own
