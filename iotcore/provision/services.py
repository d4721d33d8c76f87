"""The certificates of our own services, on disk: <cn>.pem and <cn>.key in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from iotcore.clock import Clock
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.files import SECRET_MODE, make_folder, write_whole


def ensure_service(
    authority: Authority, folder: Path, cn: str, names: Sequence[str], clock: Clock, *, signs_documents: bool = False
) -> tuple[Path, Path]:
    """The certificate and key files of service `cn` in `folder`: a server when it has `names` (DNS or IP), else a client.

    With `signs_documents` it signs papers. Issued anew when missing, past half life, for other names, or of another authority.
    """
    cert_file, key_file = folder / f"{cn}.pem", folder / f"{cn}.key"
    if not still_good(cert_file, key_file, authority, names, clock):
        pair = authority.issue_service(cn, names, signs_documents=signs_documents)
        _write_pair(cert_file, pair.certificate.pem, key_file, pair.key_pem)
    return cert_file, key_file


def _write_pair(cert_file: Path, certificate: bytes, key_file: Path, key: bytes) -> None:
    make_folder(cert_file.parent)
    cert_file.unlink(missing_ok=True)  # so that a cut in between leaves no certificate beside a foreign key
    write_whole(key_file, key, SECRET_MODE)
    write_whole(cert_file, certificate)


def still_good(cert_file: Path, key_file: Path, authority: Authority, names: Sequence[str], clock: Clock) -> bool:
    """Whether these files are there, before half life, for these names, and of this authority."""
    try:
        certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
    except (OSError, ValueError):
        return False
    if authority.anchor_of(certificate) is not Anchor.SERVICE or not key_file.exists() or _names(certificate) != list(names):
        return False
    half = certificate.not_valid_before_utc + (certificate.not_valid_after_utc - certificate.not_valid_before_utc) / 2
    return datetime.fromtimestamp(clock.wall_ms() / 1000.0, UTC) < half


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in extension.value]


def days_left(path: Path, clock: Clock) -> float:
    """Days until the certificate in `path` expires; negative when it has."""
    until = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    return (until.timestamp() - clock.wall_ms() / 1000.0) / 86_400.0
