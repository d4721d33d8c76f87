"""The certificate authority: three anchors, each a root of its own, so that none can vouch for another's certificates.

folder/passphrase                    custody.py
folder/<fire|field|service>/         root.pem, root.key (encrypted, 0600), crl.pem

A revocation list is its own record of what is revoked: it is read, extended and signed anew under a lock between processes.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp

from iotcore.clock import Clock
from iotcore.errors import StartError
from iotcore.provision import profile
from iotcore.provision.files import SECRET_MODE, locked, make_folder, read_or_explain, write_whole

DEFAULT_CRL_URL = "https://localhost:8443/crl"
RESTORE = "Restore the folder from the backup; a new authority would not know any device."
COMPLETE = "complete"  # written last at creation: from then on a missing file is a loss, not a first start


class Anchor(str, Enum):
    """The three trust anchors. A certificate of one is a stranger to the others."""

    FIRE = "fire"
    FIELD = "field"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate as the registry records it. `serial` is lower-case hex, `fingerprint` the SHA-256 of the DER in hex."""

    pem: bytes
    serial: str
    cn: str
    anchor: Anchor
    not_after_ms: float
    fingerprint: str


@dataclass(frozen=True, slots=True)
class ServicePair:
    """A certificate of one of our own services and its (unencrypted) key, both PEM."""

    certificate: IssuedCertificate
    key_pem: bytes


class Authority:
    """Issues and revokes. Holds the three keys in memory, decrypted; only the enrolling process and the keeper open one."""

    def __init__(self, folder: Path, issuers: dict[Anchor, profile.Issuer], clock: Clock) -> None:
        self.folder = folder
        self._issuers = issuers
        self._clock = clock

    @classmethod
    def ensure(cls, folder: Path, passphrase: bytes, clock: Clock, crl_url: str = DEFAULT_CRL_URL) -> Self:
        """Open the authority in `folder`; at the first start create it.

        Raises:
            StartError: wrong passphrase, or a part of an authority that once was complete is missing.
        """
        make_folder(folder)
        with locked(folder / "lock"):
            if not (folder / COMPLETE).exists():
                for anchor in Anchor:
                    _create_anchor(folder / anchor.value, anchor, passphrase, clock, crl_url)
                write_whole(folder / COMPLETE, b"")
        return cls.open(folder, passphrase, clock, crl_url)

    @classmethod
    def open(cls, folder: Path, passphrase: bytes, clock: Clock, crl_url: str = DEFAULT_CRL_URL) -> Self:
        """Open an authority that is there; errors as `ensure`. `crl_url`/<anchor>.crl is where the lists are published."""
        return cls(folder, {anchor: _open_issuer(folder, anchor, passphrase, crl_url) for anchor in Anchor}, clock)

    def root_pem(self, anchor: Anchor) -> bytes:
        """The root certificate of `anchor`."""
        return self._issuers[anchor].certificate.public_bytes(serialization.Encoding.PEM)

    def root(self, anchor: Anchor) -> x509.Certificate:
        """The root certificate of `anchor`."""
        return self._issuers[anchor].certificate

    def crl_pem(self, anchor: Anchor) -> bytes:
        """The revocation list of `anchor` as it was last signed."""
        return read_or_explain(self._crl_file(anchor), RESTORE)

    def issue_device(self, anchor: Anchor, key: profile.PublicKey, device: str) -> IssuedCertificate:
        """A certificate for `device` with the public key of its request; the caller has checked the request (policy.py)."""
        if anchor is Anchor.SERVICE:
            raise ValueError("a device is never a service")
        return _issued(profile.device(self._issuers[anchor], device, key, self._now()), anchor)

    def issue_service(self, cn: str, names: Sequence[str] = ()) -> ServicePair:
        """A key and certificate for one of our own services: a server when it has `names` (DNS or IP), else a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self._issuers[Anchor.SERVICE]
        if names:
            certificate = profile.service_server(issuer, cn, names, key.public_key(), self._now())
        else:
            certificate = profile.service_client(issuer, cn, key.public_key(), self._now())
        plain = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return ServicePair(_issued(certificate, Anchor.SERVICE), plain)

    def revoke(self, anchor: Anchor, serial: str, reason: x509.ReasonFlags = x509.ReasonFlags.unspecified) -> None:
        """Put `serial` (hex) on the list of `anchor` and sign it anew; a second time changes nothing, but makes a hold final.

        The brokers still have to be given the new list (`broker.refresh_crl`) and told to read it (`BrokerProcess.reload`).
        """
        builder = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(self._now())
        if reason is not x509.ReasonFlags.unspecified:  # RFC 5280, 5.3.1: absent rather than unspecified
            builder = builder.add_extension(x509.CRLReason(reason), critical=False)
        self._sign_list(anchor, [builder.build()])

    def lift(self, anchor: Anchor, serial: str) -> None:
        """Take `serial` (hex) off the list of `anchor` where it is on hold; any other revocation is final and stays."""
        self._sign_list(anchor, [], lifted=int(serial, 16))

    def republish(self, anchors: Iterable[Anchor] = Anchor) -> None:
        """Sign the lists anew with the same entries and a later next update: a list that expires locks everybody out."""
        for anchor in anchors:
            self._sign_list(anchor, [])

    def is_revoked(self, anchor: Anchor, serial: str) -> bool:
        """Whether `serial` (hex) is on the list of `anchor` as it was last signed."""
        crl = x509.load_pem_x509_crl(self.crl_pem(anchor))
        return crl.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None

    def anchor_of(self, certificate: x509.Certificate) -> Anchor | None:
        """Which of our anchors has signed `certificate`; None when none has. Says nothing of its time or its revocation."""
        for anchor in Anchor:
            try:
                certificate.verify_directly_issued_by(self.root(anchor))
            except (ValueError, TypeError, InvalidSignature):
                continue
            return anchor
        return None

    def issuer_hashes(self, anchor: Anchor, algorithm: hashes.HashAlgorithm) -> tuple[bytes, bytes]:
        """How OCSP names who issues for `anchor`: hashes of the subject, and of the bits of the key (RFC 6960, 4.1.1)."""
        certificate = self._issuers[anchor].certificate
        key = certificate.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        digests = []
        for content in (certificate.subject.public_bytes(), key):
            digest = hashes.Hash(algorithm)
            digest.update(content)
            digests.append(digest.finalize())
        return digests[0], digests[1]

    def sign_ocsp(self, anchor: Anchor, builder: ocsp.OCSPResponseBuilder) -> ocsp.OCSPResponse:
        """A response of whoever issues for `anchor`, signed with the same key."""
        issuer = self._issuers[anchor]
        return builder.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer.certificate).sign(issuer.key, hashes.SHA256())

    def is_current(self, certificate: x509.Certificate) -> bool:
        """Whether `certificate` is valid now by its dates."""
        return certificate.not_valid_before_utc <= self._now() < certificate.not_valid_after_utc

    def crl_left_s(self, anchor: Anchor) -> float:
        """Seconds until the list of `anchor` expires; the keeper alarms below 48 h."""
        crl = x509.load_pem_x509_crl(self.crl_pem(anchor))
        assert crl.next_update_utc is not None
        return (crl.next_update_utc - self._now()).total_seconds()

    def _sign_list(self, anchor: Anchor, added: list[x509.RevokedCertificate], lifted: int | None = None) -> None:
        with locked(self.folder / "lock"):
            before = x509.load_pem_x509_crl(self.crl_pem(anchor))
            gone = {lifted, *(entry.serial_number for entry in added if not profile.is_hold(entry))}
            stays = [entry for entry in before if entry.serial_number not in gone or not profile.is_hold(entry)]
            known = {entry.serial_number for entry in stays}
            entries = [*stays, *(entry for entry in added if entry.serial_number not in known)]
            number = before.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1
            crl = profile.revocations(self._issuers[anchor], entries, number, self._now())
            write_whole(self._crl_file(anchor), crl.public_bytes(serialization.Encoding.PEM))

    def _crl_file(self, anchor: Anchor) -> Path:
        return self.folder / anchor.value / "crl.pem"

    def _now(self) -> datetime:
        return _utc(self._clock)


def _create_anchor(folder: Path, anchor: Anchor, passphrase: bytes, clock: Clock, crl_url: str) -> None:
    """Make what is not there yet: the key first, the list last, each file whole, so that a cut start is simply continued."""
    if (folder / "crl.pem").exists():
        return
    make_folder(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    # A part of the name is random: two installations' roots must not be mistaken for each other in one trust store.
    certificate = profile.root(f"iotcore {anchor.value} root {secrets.token_hex(4)}", key, _utc(clock))
    issuer = profile.Issuer(certificate, key, f"{crl_url}/{anchor.value}.crl")
    encrypted = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(passphrase)
    )
    write_whole(folder / "root.key", encrypted, SECRET_MODE)
    write_whole(folder / "root.pem", certificate.public_bytes(serialization.Encoding.PEM))
    empty = profile.revocations(issuer, [], 1, _utc(clock))
    write_whole(folder / "crl.pem", empty.public_bytes(serialization.Encoding.PEM))


def _open_issuer(folder: Path, anchor: Anchor, passphrase: bytes, crl_url: str) -> profile.Issuer:
    home = folder / anchor.value
    certificate = x509.load_pem_x509_certificate(read_or_explain(home / "root.pem", RESTORE))
    read_or_explain(home / "crl.pem", RESTORE)
    try:
        key = serialization.load_pem_private_key(read_or_explain(home / "root.key", RESTORE), passphrase)
    except ValueError as error:
        raise StartError(
            f"{home / 'root.key'} does not open with this passphrase", "Give the passphrase it was made with."
        ) from error
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return profile.Issuer(certificate, key, f"{crl_url}/{anchor.value}.crl")


def _issued(certificate: x509.Certificate, anchor: Anchor) -> IssuedCertificate:
    name = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    return IssuedCertificate(
        certificate.public_bytes(serialization.Encoding.PEM),
        f"{certificate.serial_number:x}",
        str(name),
        anchor,
        certificate.not_valid_after_utc.timestamp() * 1000.0,
        certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _utc(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock.wall_ms() / 1000.0, UTC)
