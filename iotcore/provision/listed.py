"""Revocation lists in memory, by serial: a file is read when it was written anew, and not for each question about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from iotcore.provision import profile
from iotcore.provision.files import read_or_explain

RESTORE = "Restore the folder from the backup; a new authority would not know any device."


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A list as it was last signed."""

    pem: bytes
    der: bytes
    entries: Mapping[int, x509.RevokedCertificate]
    signed: datetime  # when, UTC
    next_update: datetime  # UTC


class Lists:
    """What is on each list, by its file."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int, int], RevocationList]] = {}

    def read(self, path: Path) -> RevocationList:
        """The list in `path`.

        Raises:
            StartError: it cannot be read.
        """
        try:
            found = path.stat()
        except OSError:
            read_or_explain(path, RESTORE)
            raise
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            known = self._known[path] = (stamp, _parsed(read_or_explain(path, RESTORE)))
        return known[1]


def _parsed(pem: bytes) -> RevocationList:
    crl = x509.load_pem_x509_crl(pem)
    assert crl.next_update_utc is not None
    return RevocationList(
        pem,
        crl.public_bytes(serialization.Encoding.DER),
        {entry.serial_number: entry for entry in crl},
        crl.last_update_utc.astimezone(UTC) + profile.BACKDATED,
        crl.next_update_utc.astimezone(UTC),
    )
