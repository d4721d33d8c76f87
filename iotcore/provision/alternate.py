"""What the alternate path of fire devices is given of the authority: whom to let in, and what is revoked. No key is among it.

folder/trust.pem   roots and issuing authorities of the fire anchor      folder/crl.pem   the list of each of them

Who has shown a certificate is judged here too, by its serial: the handshake has proved the rest, but for its time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.files import make_folder, read_or_explain, write_whole

REMEDY = "Start `iotcore up` (or `iotcore init`): it writes what is missing."
_END = b"-----END X509 CRL-----"


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate that a client has proved to hold. `name` is its common name, `serial` lower-case hex as in the registry."""

    name: str
    serial: str
    current: bool  # by its own dates


@dataclass(frozen=True, slots=True)
class Given:
    """The files."""

    folder: Path

    @property
    def trust(self) -> Path:
        return self.folder / "trust.pem"

    @property
    def lists(self) -> Path:
        return self.folder / "crl.pem"

    def stamp(self) -> tuple[int, ...]:
        """Changes whenever one of them does; empty where one is missing."""
        try:
            found = [path.stat() for path in (self.trust, self.lists)]
        except FileNotFoundError:
            return ()
        return tuple(number for one in found for number in (one.st_mtime_ns, one.st_ino))

    def revoked(self) -> frozenset[str]:
        """The serials on the lists, those on hold too.

        Raises:
            StartError: they cannot be read.
        """
        parts = read_or_explain(self.lists, REMEDY).split(_END)[:-1]
        return frozenset(f"{entry.serial_number:x}" for part in parts for entry in x509.load_pem_x509_crl(part + _END))


def refresh(authority: Authority, given: Given) -> None:
    """Write whom to trust and the current lists, where they are others than before.

    Raises:
        StartError: they cannot be written.
    """
    make_folder(given.folder)
    wanted = ((given.trust, authority.trust_pem(Anchor.FIRE)), (given.lists, authority.crl_pem(Anchor.FIRE)))
    for path, content in wanted:
        if not path.exists() or path.read_bytes() != content:
            write_whole(path, content)


def shown(der: bytes, now_ms: float) -> Shown:
    """The client's certificate, DER as TLS has it, looked at at `now_ms` (UTC)."""
    certificate = x509.load_der_x509_certificate(der)
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    now = datetime.fromtimestamp(now_ms / 1000.0, UTC)
    current = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc
    return Shown(str(names[0].value) if len(names) == 1 else "", f"{certificate.serial_number:x}", current)
