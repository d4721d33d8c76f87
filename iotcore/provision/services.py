"""The certificates of our own connections, on disk: certs/<cn>.pem and .key; and trust/service.pem to know the brokers by."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from iotcore.clock import Clock
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.files import SECRET_MODE, make_folder, write_whole
from iotcore.wire.arrival import Endpoint


def publish_trust(authority: Authority, data: Path) -> Path:
    """Write data/trust/service.pem, whom clients of our brokers and of the enrolment listener trust."""
    path = make_folder(data / "trust") / "service.pem"
    write_whole(path, authority.root_pem(Anchor.SERVICE))
    return path


def ensure_service(authority: Authority, data: Path, cn: str, clock: Clock) -> tuple[Path, Path]:
    """The certificate and key files of service client `cn`, issued anew when missing, past half life, or of another authority."""
    folder = make_folder(data / "certs")
    cert_file, key_file = folder / f"{cn}.pem", folder / f"{cn}.key"
    if not (key_file.exists() and _still_good(cert_file, authority, clock)):
        pair = authority.issue_service(cn)
        cert_file.unlink(missing_ok=True)  # so that a cut in between leaves no certificate beside a foreign key
        write_whole(key_file, pair.key_pem, SECRET_MODE)
        write_whole(cert_file, pair.certificate.pem)
    return cert_file, key_file


def service_endpoint(data: Path, cn: str, host: str, port: int) -> Endpoint:
    """How service `cn` meets a broker; its files are those of `ensure_service`."""
    certs = data / "certs"
    return Endpoint(host, port, data / "trust" / "service.pem", certs / f"{cn}.pem", certs / f"{cn}.key")


def _still_good(cert_file: Path, authority: Authority, clock: Clock) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
        certificate.verify_directly_issued_by(authority.root(Anchor.SERVICE))
    except (OSError, ValueError, TypeError, InvalidSignature):
        return False
    half = certificate.not_valid_before_utc + (certificate.not_valid_after_utc - certificate.not_valid_before_utc) / 2
    return datetime.fromtimestamp(clock.wall_ms() / 1000.0, UTC) < half


def days_left(path: Path, clock: Clock) -> float:
    """Days until the certificate in `path` expires; negative when it has."""
    until = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    return (until.timestamp() - clock.wall_ms() / 1000.0) / 86_400.0
