"""The data folder: made at the first start, completed at every later one. Nothing in it is ever replaced by guesswork.

ca/      three anchors and the passphrase's file         broker/   generated homes of the two brokers
certs/   our own services' certificates and keys         *.db      registry, journal, spools, telemetry
audit/   the key that signs the audit, and its heads     files/    photos and records, by their hash
run/     one small file a second from each process       log/      what they said (demo)
claimed  locked by the supervisor that runs here
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iotcore.clock import Clock
from iotcore.errors import StartError
from iotcore.process.credentials import environment
from iotcore.process.replicas import replicas
from iotcore.process.workers import workers
from iotcore.provision import alternate, custody
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import BrokerHome, write_home
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.files import FOLDER_MODE, make_folder, write_whole
from iotcore.provision.issuers import Module
from iotcore.provision.services import ensure_service
from iotcore.settings import Broker, Settings
from iotcore.wire.arrival import Endpoint

UNFINISHED = "restoring.json"  # a restore's marker, gone when it is done
FIRE_HTTPS = "svc.fire.1.https"
TELEMETRY_FIELD = "svc.telemetry.1.field"
DRILL_OUT = "svc.drill.1.out"
DOCTOR_FIRE = "svc.doctor.1.fire"
DOCTOR_FIELD = "svc.doctor.1.field"
PAPERS = "svc.web.1.papers"


def check_finished(folder: Path) -> None:
    """Refuse a folder that a restore has not finished: parts of it may be of different moments.

    Raises:
        StartError: it is one.
    """
    if (folder / UNFINISHED).exists():
        raise StartError(f"A restore into {folder} was not finished", "Run the same `iotcore restore` again.")


def check_folder(folder: Path) -> None:
    """Make the data folder.

    Raises:
        StartError: when it cannot be made or written, or a restore into it was not finished.
    """
    check_finished(folder)
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        probe = folder / ".write-probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StartError(
            f"The data folder {folder} cannot be written: {error.strerror}",
            "Choose another with --data, or mend its permissions.",
        ) from error


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Have the data folder for ourselves: two supervisors in one folder would run two brokers on one set of files.

    Raises:
        StartError: another one runs in it, or it cannot be written.
    """
    check_folder(folder)
    with (folder / "claimed").open("w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it when we end, however we do
        except OSError as error:
            raise StartError(f"Another iotcore runs in {folder}", "Stop it first, or choose another data folder.") from error
        yield


def authority(settings: Settings, clock: Clock, at: Module | None = None) -> Authority:
    """The certificate authority of this installation, created at first use, with issuing keys in the security module `at`."""
    folder, given = settings.folder / "ca", environment(os.environ)
    pin = custody.pin(given)
    return Authority.ensure(folder, custody.passphrase(folder, given), clock, crl_url(settings), pin=pin, at=at)


def crl_url(settings: Settings) -> str:
    """Where certificates say that their revocation list is."""
    if settings.web.crl_port:
        return f"http://{settings.web.est_names[0]}:{settings.web.crl_port}/crl"
    return f"https://{settings.web.est_names[0]}:{settings.web.est_port}/crl"


def broker_home(settings: Settings, name: BrokerName) -> BrokerHome:
    """Where a broker that we run lives."""
    broker = broker_settings(settings, name)
    return BrokerHome(
        name,
        settings.folder / "broker" / name.value,
        broker.port,
        broker.address,
        names=(broker.host, *broker.names),
        password_port=broker.password_port,
    )


def broker_settings(settings: Settings, name: BrokerName) -> Broker:
    """The settings of one of the two brokers."""
    return settings.brokers.fire if name is BrokerName.FIRE else settings.brokers.field


def prepare(settings: Settings, clock: Clock) -> Authority:
    """Everything that must stand before the first process starts; calling it again only completes what is missing.

    Raises:
        StartError: with the thing in the way and the remedy.
    """
    check_folder(settings.folder)
    made = authority(settings, clock)
    for part in ("run", "broker"):
        make_folder(settings.folder / part)
    alternate.refresh(made, given(settings))
    for name in BrokerName:
        if broker_settings(settings, name).run != "external":
            write_home(made, broker_home(settings, name))
    certs = make_folder(settings.folder / "certs")
    write_whole(certs / "service-root.pem", made.root_pem(Anchor.SERVICE))
    for cn in clients(settings):
        ensure_service(made, certs, cn, (), clock)
    papers(settings, made, clock)
    if settings.fire.https_port:
        ensure_service(made, certs, FIRE_HTTPS, settings.fire.https_names, clock)
    return made


def given(settings: Settings) -> alternate.Given:
    """What the alternate path of fire devices knows of the authority."""
    return alternate.Given(settings.folder / "broker" / "https")


def fire_https(settings: Settings) -> tuple[str, int] | None:
    """Where a device on this machine finds the alternate path; None where there is none."""
    return (settings.fire.https_names[0], settings.fire.https_port) if settings.fire.https_port else None


def papers(settings: Settings, authority: Authority, clock: Clock) -> tuple[Path, Path]:
    """The certificate and key that sign our papers, made anew past half life; a paper keeps the one it was signed with."""
    return ensure_service(authority, settings.folder / "certs", PAPERS, (), clock, signs_documents=True)


def clients(settings: Settings) -> list[str]:
    """The certificates with which our own processes meet the brokers."""
    return [
        *(one.cn for one in replicas(settings)),
        *(cn for worker in workers(settings) for cn in worker.clients()),
        DRILL_OUT,
        DOCTOR_FIRE,
        DOCTOR_FIELD,
    ]


def shown(settings: Settings) -> list[Path]:
    """The certificates of our services in `certs/` that have to be good, whether they are there or not."""
    names = [*clients(settings), *([FIRE_HTTPS] if settings.fire.https_port else [])]
    return [settings.folder / "certs" / f"{cn}.pem" for cn in names]


def endpoint(settings: Settings, name: BrokerName, cn: str) -> Endpoint:
    """A broker as the service `cn` meets it."""
    broker = broker_settings(settings, name)
    certs = settings.folder / "certs"
    return Endpoint(broker.host, broker.port, certs / "service-root.pem", certs / f"{cn}.pem", certs / f"{cn}.key")
