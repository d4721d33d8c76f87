"""OCSP (RFC 6960): whether one certificate still counts, signed by whoever issued it. Bytes in, bytes out.

One certificate to a request, as every client asks. What the registry has never seen is "unknown", not "good".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from iotcore.clock import Clock
from iotcore.errors import SigningError
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.issuers import Signer
from iotcore.provision.profile import reason_of

GOOD_FOR = timedelta(hours=1)  # the keeper signs the lists anew as often
NONCE_BYTES = 32  # RFC 9654, 2.1 takes up to 128; a client that asks for more gets an answer without it
Known = Callable[[str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class _Asked:
    anchor: Anchor
    signer: Signer
    serial: int
    algorithm: hashes.HashAlgorithm
    name_hash: bytes
    key_hash: bytes
    nonce: x509.OCSPNonce | None


async def answer(authority: Authority, known: Known, clock: Clock, request: bytes) -> bytes:
    """The DER of a response, whatever `request` is. `known(serial)`: the registry has a device's certificate of this serial."""
    try:
        return await _answer(authority, known, clock, request)
    except SigningError:
        return _refusal(ocsp.OCSPResponseStatus.TRY_LATER)  # RFC 6960, 2.3


async def _answer(authority: Authority, known: Known, clock: Clock, request: bytes) -> bytes:
    try:
        asked = _read(authority, ocsp.load_der_ocsp_request(request))
    except (ValueError, NotImplementedError):  # the latter: several certificates in one request
        return _refusal(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
    if asked is None:
        return _refusal(ocsp.OCSPResponseStatus.UNAUTHORIZED)  # RFC 6960, 2.3: not one of our issuers
    entry = authority.revoked_by(asked.signer).get(asked.serial)
    status, now = ocsp.OCSPCertStatus.REVOKED, datetime.fromtimestamp(clock.wall_ms() / 1000.0, UTC).replace(microsecond=0)
    if entry is None:
        # Our own services' certificates are not in the registry: of theirs only the list tells.
        there = asked.anchor is Anchor.SERVICE or await known(f"{asked.serial:x}")
        status = ocsp.OCSPCertStatus.GOOD if there else ocsp.OCSPCertStatus.UNKNOWN
    reason = reason_of(entry) if entry is not None else None
    builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
        issuer_name_hash=asked.name_hash,
        issuer_key_hash=asked.key_hash,
        serial_number=asked.serial,
        algorithm=asked.algorithm,
        cert_status=status,
        this_update=now,
        next_update=now + GOOD_FOR,
        revocation_time=entry.revocation_date_utc if entry is not None else None,
        revocation_reason=None if reason is x509.ReasonFlags.unspecified else reason,
    )
    if asked.nonce is not None and len(asked.nonce.nonce) <= NONCE_BYTES:
        builder = builder.add_extension(asked.nonce, critical=False)
    issuer = asked.signer.issuer
    signed = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer.certificate).sign(issuer.key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def _read(authority: Authority, request: ocsp.OCSPRequest) -> _Asked | None:
    """What is asked; None for a certificate of somebody else."""
    algorithm = request.hash_algorithm
    try:
        nonce = request.extensions.get_extension_for_class(x509.OCSPNonce).value
    except x509.ExtensionNotFound:
        nonce = None
    found = _named(authority, algorithm, request.issuer_name_hash, request.issuer_key_hash)
    if found is None:
        return None
    return _Asked(*found, request.serial_number, algorithm, request.issuer_name_hash, request.issuer_key_hash, nonce)


def _named(
    authority: Authority, algorithm: hashes.HashAlgorithm, name_hash: bytes, key_hash: bytes
) -> tuple[Anchor, Signer] | None:
    """Whom of ours is meant by these hashes: of the subject, and of the bits of the key (RFC 6960, 4.1.1)."""
    for anchor in Anchor:
        for signer in authority.trusted(anchor):
            if _hashed(signer.certificate, algorithm) == (name_hash, key_hash):
                return anchor, signer
    return None


def _hashed(certificate: x509.Certificate, algorithm: hashes.HashAlgorithm) -> tuple[bytes, bytes]:
    key = certificate.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    digests = []
    for content in (certificate.subject.public_bytes(), key):
        digest = hashes.Hash(algorithm)
        digest.update(content)
        digests.append(digest.finalize())
    return digests[0], digests[1]


def _refusal(status: ocsp.OCSPResponseStatus) -> bytes:
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(serialization.Encoding.DER)
