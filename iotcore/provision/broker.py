"""A Mosquitto broker's folder: its configuration, acl, trust bundle, revocation lists and server certificate.

folder/mosquitto.conf   acl   trust.pem   crl.pem   server.pem   server.key   mosquitto.db   mosquitto.log   mosquitto.pid
folder/vendors.json     acl-vendors   passwords       (vendor_access.py)
folder/admin/           cuts.json                     (session_cut.py)

The folder is written anew at each start from the authority and the table in acl.py; kept are mosquitto.db, the server's
certificate until half life, and what the keeper has made of the registry: vendors' topics and passwords.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography import x509

from iotcore.errors import StartError
from iotcore.provision import services, session_cut, vendor_access
from iotcore.provision.acl import BrokerName
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.files import SECRET_MODE, make_folder, write_whole
from iotcore.provision.mosquitto import Form, find_mosquitto, form_here

SERVER_CN = "svc.broker.1.{}"
LOOPBACK_NAMES = ("localhost", "127.0.0.1")
INSTALL = "Install it (Debian: apt-get install mosquitto; macOS: brew install mosquitto) or set run = 'amqtt' to try things out."

# The contract allows 64 KiB of payload; what is larger is let in so far that the lane can refuse it by name and count it.
MAX_PACKET_BYTES = 2 * 1024 * 1024
MAX_CONNECTIONS = 20_000
MAX_KEEPALIVE_S = 300  # a lost device is known lost after 1.5 times this at most (MQTT 5, 3.1.2.10)
MAX_INFLIGHT = 1_000  # what a consumer may hold unacknowledged; the bound of its memory, since 2.0 ignores its receive maximum
MAX_QUEUED = 100_000  # for a service that is down; beyond it the broker drops, and devices send again for want of a receipt
MAX_QUEUED_BYTES = 256 * 1024 * 1024
SESSION_KEPT = "14d"
# What a kill -9 may lose of sessions, queued and retained messages; by default it would be half an hour. Readings are safe
# without: a PUBACK is no promise of a disk, so devices keep theirs until the receipt and send again when the connection breaks.
# Saving at each change instead (autosave_on_changes, 1) costs more than it keeps: see docs/access.md for what was measured.
AUTOSAVE_S = {BrokerName.FIRE: 1, BrokerName.FIELD: 10}


@dataclass(frozen=True, slots=True)
class BrokerHome:
    """Where one broker lives and listens. `names` are those its server certificate must carry besides loopback."""

    name: BrokerName
    folder: Path
    port: int
    host: str = "127.0.0.1"
    names: Sequence[str] = ()
    password_port: int = 0  # of the listener for vendors' devices, which have no certificate; 0: there is none

    @property
    def configuration(self) -> Path:
        return self.folder / "mosquitto.conf"

    @property
    def trust(self) -> Path:
        """Whose certificates may connect: the broker's own anchor, and our services."""
        return self.folder / "trust.pem"

    @property
    def crl(self) -> Path:
        """The lists of every issuer in one file: OpenSSL wants one for each, or lets nobody of it in."""
        return self.folder / "crl.pem"

    @property
    def certificate(self) -> Path:
        return self.folder / "server.pem"

    @property
    def key(self) -> Path:
        return self.folder / "server.key"


def anchors(name: BrokerName) -> tuple[Anchor, Anchor]:
    """Whom a broker trusts. A certificate of the other broker's anchor cannot even connect."""
    return (Anchor(name.value), Anchor.SERVICE)


def write_home(authority: Authority, home: BrokerHome) -> None:
    """Write the broker's folder.

    Raises:
        StartError: when it cannot be written.
    """
    make_folder(home.folder)
    make_folder(home.folder / session_cut.FOLDER)
    if not has_server(authority, home):
        pair = authority.issue_service(SERVER_CN.format(home.name.value), server_names(home))
        write_whole(home.key, pair.key_pem, SECRET_MODE)
        write_whole(home.certificate, pair.certificate.pem)
    vendor_access.write(home.folder, home.name, vendor_access.remembered(home.folder), passwords=bool(home.password_port))
    write_whole(home.configuration, configuration(home, form_here(), as_root=os.geteuid() == 0).encode())
    refresh_crl(authority, home)


def refresh_crl(authority: Authority, home: BrokerHome) -> None:
    """Hand the broker whom to trust and the current lists; it reads them at its next SIGHUP (`BrokerProcess.reload`)."""
    trust, lists = trusted(authority, home.name)
    for path, content in ((home.trust, trust), (home.crl, lists)):  # the list last: it is what is watched
        if not path.exists() or path.read_bytes() != content:
            write_whole(path, content)


def trusted(authority: Authority, name: BrokerName) -> tuple[bytes, bytes]:
    """Whom a broker trusts, and the lists of what is revoked, both PEM."""
    trust = b"".join(authority.trust_pem(anchor) for anchor in anchors(name))
    return trust, b"".join(authority.crl_pem(anchor) for anchor in anchors(name))


def has_server(authority: Authority, home: BrokerHome) -> bool:
    """Whether its certificate is good, before half life, and of who signs now: a start needs no signature then."""
    if not services.still_good(home.certificate, home.key, authority, server_names(home), authority.clock):
        return False
    issuer = x509.load_pem_x509_certificate(home.certificate.read_bytes()).issuer
    return issuer == authority.issuers(Anchor.SERVICE).signs.certificate.subject


def server_names(home: BrokerHome) -> list[str]:
    """The names and addresses that its certificate is for."""
    return list(dict.fromkeys([*LOOPBACK_NAMES, *home.names]))


def free_port() -> int:
    """A port of loopback that nobody has. Whoever takes it before the broker does makes the broker end."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK_NAMES[1], 0))
        return int(probe.getsockname()[1])


def configuration(home: BrokerHome, form: Form, *, as_root: bool, at: Path | None = None) -> str:
    """mosquitto.conf for `home`; every line is a trap that somebody has fallen into, see docs/access.md.

    `at`: the folder where its files will be, for a broker that somebody else runs; None: its own.
    """
    folder = at or home.folder.resolve()
    lines = [
        "# Generated by iotcore; changes here are lost at the next start.",
        # Each listener has its own acl, its own passwords, its own plugin, or none: by this, or by `plugin_use`.
        *([] if form.modern else ["per_listener_settings true"]),
        *_plugins(form, home, folder),
        f"listener {home.port} {home.host}",
        f"max_connections {MAX_CONNECTIONS}",
        f"cafile {folder / home.trust.name}",
        f"certfile {folder / home.certificate.name}",
        f"keyfile {folder / home.key.name}",
        f"crlfile {folder / home.crl.name}",
        "tls_version tlsv1.2",  # the lowest that is accepted
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",  # else any valid certificate takes over a victim's session by its client id
        *_anonymous(form),
        "plugin_use acl" if form.modern else f"acl_file {folder / vendor_access.ACL}",
        *_password_listener(home, form, folder),
        "set_tcp_nodelay true",
        f"max_packet_size {MAX_PACKET_BYTES}",
        f"max_keepalive {MAX_KEEPALIVE_S}",
        f"max_inflight_messages {MAX_INFLIGHT}",
        f"max_queued_messages {MAX_QUEUED}",
        f"max_queued_bytes {MAX_QUEUED_BYTES}",
        f"persistent_client_expiration {SESSION_KEPT}",
        "persistence true",
        f"persistence_location {folder}/",
        "autosave_on_changes false",
        f"autosave_interval {AUTOSAVE_S[home.name]}",
        f"sys_interval {AUTOSAVE_S[home.name]}",  # an idle 2.1 wakes up for this alone, and saves when it wakes
        f"pid_file {folder / 'mosquitto.pid'}",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
    ]
    if as_root:
        lines.append("user root")  # started as root it would become `mosquitto`, who cannot enter the data folder
    if at is None:
        lines.append(f"include_dir {folder / session_cut.FOLDER}")  # last: what follows a listener is that listener's
    return "\n".join([*lines, ""])


def _anonymous(form: Form) -> list[str]:
    return ["listener_allow_anonymous false" if form.modern else "allow_anonymous false"]


def _plugins(form: Form, home: BrokerHome, folder: Path) -> list[str]:
    """In the form of 2.1: one instance of a plugin for each acl and for the passwords, used by the listeners below."""
    if not form.modern:
        return []
    lines = [f"plugin_load acl {form.acls}", f"plugin_opt_acl_file {folder / vendor_access.ACL}"]
    if home.password_port:
        lines += [
            f"plugin_load vendor-acl {form.acls}",
            f"plugin_opt_acl_file {folder / vendor_access.VENDOR_ACL}",
            f"plugin_load vendor-passwords {form.passwords}",
            f"plugin_opt_password_file {folder / vendor_access.PASSWORDS}",
        ]
    return lines


def _password_listener(home: BrokerHome, form: Form, folder: Path) -> list[str]:
    """A second way in, for those who can show no certificate: TLS, a password, and an acl that has none of our topics."""
    if not home.password_port:
        return []
    checks = [f"password_file {folder / vendor_access.PASSWORDS}", f"acl_file {folder / vendor_access.VENDOR_ACL}"]
    return [
        f"listener {home.password_port} {home.host}",
        f"max_connections {MAX_CONNECTIONS}",
        f"certfile {folder / home.certificate.name}",
        f"keyfile {folder / home.key.name}",
        "tls_version tlsv1.2",
        "require_certificate false",
        "use_username_as_clientid true",  # as on the other listener: nobody takes over another's session
        *_anonymous(form),
        *(["plugin_use vendor-passwords", "plugin_use vendor-acl"] if form.modern else checks),
    ]


def choose(run: str) -> Literal["mosquitto", "amqtt", "external"]:
    """What `brokers.*.run` of the settings comes to on this machine.

    Raises:
        StartError: Mosquitto is asked for and not installed.
    """
    if run == "external":
        return "external"
    if run == "amqtt":
        return "amqtt"
    if find_mosquitto() is not None:
        return "mosquitto"
    if run == "mosquitto":
        raise StartError("The program mosquitto is not installed", INSTALL)
    return "amqtt"
