"""The identity of a gateway towards one broker: a key and its certificate in one PEM file, replaced together or not at all.

One file, because a certificate beside a foreign key, after a power cut between two renames, would silence the gateway.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs7,
)

from iotcore.errors import EnrolmentError
from iotcore.provision.files import SECRET_MODE, make_folder, write_whole

RENEW_FROM = 0.5  # of a certificate's life
RENEW_SPREAD = 0.1  # of its life: a thousand gateways enrolled on one day do not renew in one minute
SPREAD_STEPS = 1_000


@dataclass(frozen=True, slots=True)
class Identity:
    """A file with a key and a certificate that belong together. Times are wall clock, ms UTC."""

    file: Path
    certificate: x509.Certificate

    @property
    def expires_ms(self) -> float:
        """When it ends."""
        return self.certificate.not_valid_after_utc.timestamp() * 1000.0

    @property
    def renew_ms(self) -> float:
        """When it should be renewed: half life and up to a tenth more, which its serial number decides."""
        begins_ms = self.certificate.not_valid_before_utc.timestamp() * 1000.0
        spread = RENEW_SPREAD * (self.certificate.serial_number % SPREAD_STEPS) / SPREAD_STEPS
        return begins_ms + (RENEW_FROM + spread) * (self.expires_ms - begins_ms)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was made here and never leaves, and the request that proves it (PKCS#10, DER)."""

    pem: bytes
    request: bytes
    public: ec.EllipticCurvePublicKey


def new_key(name: str) -> NewKey:
    """A new P-256 key for the device `name`."""
    return _asking(ec.generate_private_key(ec.SECP256R1()), name)


def _asking(key: ec.EllipticCurvePrivateKey, name: str) -> NewKey:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder(subject).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    return NewKey(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), request, key.public_key())


def store(file: Path, key: NewKey, certificate: x509.Certificate) -> Identity:
    """Write both to `file`, whole, readable by its owner alone.

    Raises:
        StartError: it cannot be written.
    """
    make_folder(file.parent)
    write_whole(file, key.pem + certificate.public_bytes(Encoding.PEM), SECRET_MODE)
    return Identity(file, certificate)


def keep_key(file: Path, key: NewKey) -> None:
    """Keep a key whose request is on its way: who asks again with another key is another for whoever has to approve."""
    make_folder(file.parent)
    write_whole(file, key.pem, SECRET_MODE)


def kept_key(file: Path, name: str) -> NewKey | None:
    """The key in `file`, with a request for `name`; None when there is none, or it is not whole."""
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        return None
    return _asking(key, name) if isinstance(key, ec.EllipticCurvePrivateKey) else None


def load(file: Path, name: str) -> Identity | None:
    """The identity of `name` in `file`; None when there is none, or it is not whole, or of another name."""
    try:
        content = file.read_bytes()
        key, certificate = load_pem_private_key(content, None), x509.load_pem_x509_certificate(content)
    except (OSError, ValueError, TypeError):
        return None
    return Identity(file, certificate) if is_for(certificate, key.public_key(), name) else None


def own_certificate(answer: bytes, key: NewKey, name: str) -> x509.Certificate:
    """The certificate of our key and name among those of a certs-only PKCS#7 (DER).

    Raises:
        EnrolmentError: `unreadable`, or `not_ours`.
    """
    try:
        certificates = pkcs7.load_der_pkcs7_certificates(answer)
    except ValueError as error:
        raise EnrolmentError("unreadable", f"the answer is no PKCS#7: {error}") from error
    for certificate in certificates:
        if is_for(certificate, key.public, name):
            return certificate
    raise EnrolmentError("not_ours", "no certificate in the answer is for our key and name")


def is_for(certificate: x509.Certificate, key: object, name: str) -> bool:
    """Whether a certificate is of this public key and name."""
    names = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    return certificate.public_key() == key and names == [name]
