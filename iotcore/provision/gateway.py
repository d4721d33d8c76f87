"""The identity of a gateway that runs beside the authority: our own Modbus driver, a gateway like any other to the field."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from iotcore.clock import Clock
from iotcore.provision.ca import Anchor, Authority, IssuedCertificate
from iotcore.provision.files import SECRET_MODE, write_whole
from iotcore.provision.services import days_left

RENEW_BEFORE_DAYS = 30.0


def ensure_gateway(authority: Authority, folder: Path, gateway: str, anchor: Anchor, clock: Clock) -> IssuedCertificate | None:
    """Make <gateway>.key and <gateway>.pem in `folder` unless good ones are there.

    Returns the certificate when a new one was made, for the registry.
    """
    cert_file, key_file = folder / f"{gateway}.pem", folder / f"{gateway}.key"
    if cert_file.exists() and key_file.exists() and days_left(cert_file, clock) > RENEW_BEFORE_DAYS:
        known = x509.load_pem_x509_certificate(cert_file.read_bytes())
        if known.issuer == authority.root(anchor).subject:
            return None
    key = ec.generate_private_key(ec.SECP256R1())
    issued = authority.issue_device(anchor, key.public_key(), gateway)
    cert_file.unlink(missing_ok=True)
    write_whole(key_file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), SECRET_MODE)
    write_whole(cert_file, issued.pem)
    return issued
