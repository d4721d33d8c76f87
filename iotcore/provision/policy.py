"""What a certificate request must be, and must not ask for. Pure: no clock, no files, no registry.

Nothing of a request survives but its key; a request that asks for more is still refused, by name: it is an attack or a mistake,
and a device that believes it got what it asked for is worse than one that hears no.

Keys: P-256, what secure elements hold, and Ed25519. RSA is refused: one small set of algorithms has to stay safe for the ten
years a detector hangs on its ceiling, and RSA would allow TLS 1.2 key exchange without forward secrecy.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from iotcore.errors import EnrolmentError
from iotcore.provision.profile import PublicKey, device_urn
from iotcore.wire.topics import DEVICE_NAME

MAX_REQUEST_BYTES = 4096  # a P-256 request with every allowed extension has about 500


class Reason(str, Enum):
    """Why a request is refused; told to the device and audited."""

    TOO_LARGE = "too_large"
    NOT_A_REQUEST = "not_a_request"
    NO_POSSESSION = "no_proof_of_possession"
    WEAK_SIGNATURE = "weak_signature"
    KEY_KIND = "key_kind"
    BAD_NAME = "bad_name"
    WRONG_NAME = "wrong_name"
    CA_FLAG = "ca_flag"
    FOREIGN_NAME = "foreign_name"
    FOREIGN_USAGE = "foreign_usage"
    FOREIGN_EXTENSION = "foreign_extension"


def refused(reason: Reason, detail: str) -> EnrolmentError:
    """The error for `reason`; `detail` says what to do."""
    return EnrolmentError(reason.value, detail)


@dataclass(frozen=True, slots=True)
class Request:
    """A request that passed: the key to certify, its SHA-256 (SubjectPublicKeyInfo) in hex, and the name it is for."""

    name: str
    key: PublicKey
    key_hash: str


def key_hash(key: PublicKey) -> str:
    """What a key is known by: SHA-256 of its SubjectPublicKeyInfo, in hex."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def hash_of_certificate(pem: bytes) -> str:
    """The same of the key of a certificate of ours."""
    return hashlib.sha256(
        x509.load_pem_x509_certificate(pem).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def attributes() -> bytes:
    """What a request should have (RFC 7030, 4.5.2: CsrAttrs, DER): a key on P-256, and ECDSA with SHA-256."""
    public_key = bytes.fromhex("06072a8648ce3d0201")  # id-ecPublicKey, 1.2.840.10045.2.1
    p256 = bytes.fromhex("06082a8648ce3d030107")  # prime256v1, 1.2.840.10045.3.1.7
    signature = bytes.fromhex("06082a8648ce3d040302")  # ecdsa-with-SHA256, 1.2.840.10045.4.3.2
    attribute = _sequence(public_key + _tagged(0x31, p256))
    return _sequence(attribute + signature)


def _sequence(content: bytes) -> bytes:
    return _tagged(0x30, content)


def _tagged(tag: int, content: bytes) -> bytes:
    return bytes([tag, len(content)]) + content  # short form: all of it has 36 bytes


def check(csr_der: bytes, device: str = "") -> Request:
    """Judge a PKCS#10 request (RFC 2986, DER) for `device`, the name that its right is bound to; "": for the device it names.

    Raises:
        EnrolmentError: with one of `Reason`.
    """
    if len(csr_der) > MAX_REQUEST_BYTES:
        raise refused(Reason.TOO_LARGE, f"a request has at most {MAX_REQUEST_BYTES} bytes")
    try:
        csr = x509.load_der_x509_csr(csr_der)
        key = csr.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise refused(Reason.NOT_A_REQUEST, "not a PKCS#10 certificate request in DER, or of an unknown key") from error
    known = _known_key(key)
    _check_signature(csr)
    name = _checked_name(csr, device)
    try:
        extensions = csr.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise refused(Reason.FOREIGN_EXTENSION, "its extensions cannot be read") from error
    for extension in extensions:
        _check_extension(extension.value, name)
    return Request(name, known, key_hash(known))


def _known_key(key: object) -> PublicKey:
    if isinstance(key, ed25519.Ed25519PublicKey) or (
        isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    ):
        return key
    raise refused(Reason.KEY_KIND, "use a P-256 (or Ed25519) key; RSA and other curves are not accepted")


def _check_signature(csr: x509.CertificateSigningRequest) -> None:
    """The requester holds the private key, and proves it with a hash that is not broken."""
    try:
        algorithm = csr.signature_hash_algorithm
        valid = csr.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise refused(Reason.WEAK_SIGNATURE, "its signature algorithm is not known; use SHA-256") from error
    if algorithm is not None and not isinstance(algorithm, hashes.SHA256 | hashes.SHA384 | hashes.SHA512):  # Ed25519 has none
        raise refused(Reason.WEAK_SIGNATURE, f"signed with {algorithm.name}; use SHA-256")
    if not valid:
        raise refused(Reason.NO_POSSESSION, "its signature does not fit its key")


def _checked_name(csr: x509.CertificateSigningRequest, device: str) -> str:
    """Exactly one CN, and it is the device's (any device's for ""). Other parts of the subject (a country) are dropped unread."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a length that is wrong; we refuse that ourselves
            names = [str(attribute.value) for attribute in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except (ValueError, TypeError) as error:  # not the encoding it claims; a bit string
        raise refused(Reason.BAD_NAME, "its subject cannot be read") from error
    if len(names) != 1:
        raise refused(Reason.BAD_NAME, f"the subject has {len(names)} common names; it needs one, the device's")
    if not DEVICE_NAME.match(names[0]):
        raise refused(Reason.BAD_NAME, "a device's name is 1 to 64 of A–Z, a–z, 0–9, _ and -")
    if device and names[0] != device:
        raise refused(Reason.WRONG_NAME, f"the request is for {names[0]!r}, the token for another device")
    return names[0]


def _check_extension(extension: x509.ExtensionType, device: str) -> None:
    check_kind = _ALLOWED.get(type(extension))
    if check_kind is None:
        raise refused(Reason.FOREIGN_EXTENSION, f"extension {extension.oid.dotted_string} is not granted; ask for none")
    check_kind(extension, device)


def _constraints(extension: x509.ExtensionType, device: str) -> None:
    assert isinstance(extension, x509.BasicConstraints)
    if extension.ca:
        raise refused(Reason.CA_FLAG, f"{device} is not a certificate authority")


def _key_usage(extension: x509.ExtensionType, device: str) -> None:
    assert isinstance(extension, x509.KeyUsage)
    if extension.key_cert_sign or extension.crl_sign:
        raise refused(Reason.CA_FLAG, f"{device} may sign neither certificates nor revocation lists")


def _extended_usage(extension: x509.ExtensionType, device: str) -> None:
    assert isinstance(extension, x509.ExtendedKeyUsage)
    if any(usage != ExtendedKeyUsageOID.CLIENT_AUTH for usage in extension):
        raise refused(Reason.FOREIGN_USAGE, f"{device} gets TLS client authentication and nothing else")


def _alternative_names(extension: x509.ExtensionType, device: str) -> None:
    assert isinstance(extension, x509.SubjectAlternativeName)
    own = x509.UniformResourceIdentifier(device_urn(device))
    if any(name != own for name in extension):
        raise refused(Reason.FOREIGN_NAME, f"the only alternative name of {device} is {own.value}")


def _harmless(extension: x509.ExtensionType, device: str) -> None:
    """An identifier of the key: we make our own."""


_ALLOWED: dict[type[x509.ExtensionType], Callable[[x509.ExtensionType, str], None]] = {
    x509.BasicConstraints: _constraints,
    x509.KeyUsage: _key_usage,
    x509.ExtendedKeyUsage: _extended_usage,
    x509.SubjectAlternativeName: _alternative_names,
    x509.SubjectKeyIdentifier: _harmless,
}
