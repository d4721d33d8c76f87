"""What our certificates and revocation lists look like (RFC 5280; device names as RFC 9039 URNs). Pure: no clock, no files.

Root      P-256, self-signed, path length 1, 20 years               Service client   CN = svc.…, clientAuth, 365 days
Issuing   P-256, path length 0, 5 years                             Service server   CN = svc.…, SAN = its names, serverAuth
Device    P-256, CN = device, SAN urn:dev, clientAuth, 90 days    Papers           CN = svc.…, documentSigning, 365 days
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

BACKDATED = timedelta(minutes=10)  # a device's clock may be behind ours
DEVICE_LIFETIME = timedelta(days=90)
# Services are reissued at every start past half life; an expired one silences a lane, so it outlives any sensible uptime.
SERVICE_LIFETIME = timedelta(days=365)
ROOT_LIFETIME = timedelta(days=20 * 365)  # twice the service life of a smoke detector (10 years, NFPA 72, 14.4.4)
ISSUING_LIFETIME = timedelta(days=5 * 365)  # four rotations in a root's life: what is done that seldom is still known how
CRL_LIFETIME = timedelta(days=7)
DEVICE_URN = "urn:dev:iotcore:"
DOCUMENT_SIGNING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")  # id-kp-documentSigning, RFC 9336


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs: its certificate, its key, where its revocation list is published, and who answers OCSP ("": nobody)."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    crl_url: str
    ocsp_url: str = ""


@dataclass(frozen=True, slots=True)
class _Validity:
    now: datetime
    lifetime: timedelta


def root(name: str, key: ec.EllipticCurvePrivateKey, now: datetime, path_length: int = 1) -> x509.Certificate:
    """A self-signed trust anchor; `path_length` 0 signs end certificates only, as roots of the release before did."""
    subject = _named(name)
    return (
        _builder(subject, subject, key.public_key(), _Validity(now, ROOT_LIFETIME))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def issuing(above: Issuer, name: str, key: ec.EllipticCurvePublicKey, now: datetime) -> x509.Certificate:
    """An authority under a root: it signs end certificates and lists, and no further authority."""
    return (
        _builder(_named(name), above.certificate.subject, key, _Validity(now, ISSUING_LIFETIME))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_authority(above), critical=False)
        .sign(above.key, hashes.SHA256())
    )


def device(issuer: Issuer, name: str, key: PublicKey, now: datetime) -> x509.Certificate:
    """A device's certificate. Nothing but the key comes from the request: the rest is ours."""
    urn = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(device_urn(name))])
    builder = _end(issuer, name, key, _Validity(now, DEVICE_LIFETIME), ExtendedKeyUsageOID.CLIENT_AUTH).add_extension(
        urn, critical=False
    )
    return builder.sign(issuer.key, hashes.SHA256())


def service_client(issuer: Issuer, name: str, key: PublicKey, now: datetime) -> x509.Certificate:
    """A certificate that one of our own connections shows to a broker."""
    builder = _end(issuer, name, key, _Validity(now, SERVICE_LIFETIME), ExtendedKeyUsageOID.CLIENT_AUTH)
    return builder.sign(issuer.key, hashes.SHA256())


def service_server(issuer: Issuer, name: str, names: Sequence[str], key: PublicKey, now: datetime) -> x509.Certificate:
    """A certificate that a broker or the enrolment listener shows; it cannot be used to connect to one."""
    alternatives = x509.SubjectAlternativeName([_general_name(text) for text in names])
    builder = _end(issuer, name, key, _Validity(now, SERVICE_LIFETIME), ExtendedKeyUsageOID.SERVER_AUTH)
    return builder.add_extension(alternatives, critical=False).sign(issuer.key, hashes.SHA256())


def signs_documents(issuer: Issuer, name: str, key: PublicKey, now: datetime) -> x509.Certificate:
    """A certificate that signs papers (RFC 9336); it cannot be used to connect to anything."""
    builder = _end(issuer, name, key, _Validity(now, SERVICE_LIFETIME), DOCUMENT_SIGNING)
    return builder.sign(issuer.key, hashes.SHA256())


def revocations(
    issuer: Issuer, entries: Sequence[x509.RevokedCertificate], number: int, now: datetime
) -> x509.CertificateRevocationList:
    """A revocation list with `entries`; a client that meets it after its next update lets nobody in."""
    # All entries at once: adding them one by one copies the list for each.
    return (
        x509.CertificateRevocationListBuilder(revoked_certificates=list(entries))
        .issuer_name(issuer.certificate.subject)
        .last_update(now - BACKDATED)
        .next_update(now + CRL_LIFETIME)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority(issuer), critical=False)
        .sign(issuer.key, hashes.SHA256())
    )


def revoked(serial: int, reason: x509.ReasonFlags, now: datetime) -> x509.RevokedCertificate:
    """A line of a revocation list."""
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
    if reason is not x509.ReasonFlags.unspecified:  # RFC 5280, 5.3.1: absent rather than unspecified
        builder = builder.add_extension(x509.CRLReason(reason), critical=False)
    return builder.build()


def reason_of(entry: x509.RevokedCertificate) -> x509.ReasonFlags:
    """Why a certificate is on a list."""
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        return x509.ReasonFlags.unspecified


def is_hold(entry: x509.RevokedCertificate) -> bool:
    """Whether the revocation can be lifted (RFC 5280, 5.3.1)."""
    return reason_of(entry) is x509.ReasonFlags.certificate_hold


def device_urn(name: str) -> str:
    """The device's URN. RFC 9039 keeps "_" for components, so it becomes ".", which no device name holds."""
    return DEVICE_URN + name.replace("_", ".")


def _end(issuer: Issuer, name: str, key: PublicKey, valid: _Validity, usage: x509.ObjectIdentifier) -> x509.CertificateBuilder:
    where = x509.DistributionPoint([x509.UniformResourceIdentifier(issuer.crl_url)], None, None, None)
    builder = (
        _builder(_named(name), issuer.certificate.subject, key, valid)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False, commits=usage == DOCUMENT_SIGNING), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_authority(issuer), critical=False)
        .add_extension(x509.CRLDistributionPoints([where]), critical=False)
    )
    if not issuer.ocsp_url:
        return builder
    responder = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(issuer.ocsp_url))
    return builder.add_extension(x509.AuthorityInformationAccess([responder]), critical=False)


def _builder(subject: x509.Name, issuer: x509.Name, key: PublicKey, valid: _Validity) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())  # 159 random bits; CA/Browser Forum baseline asks for 64
        .not_valid_before(valid.now - BACKDATED)
        .not_valid_after(valid.now + valid.lifetime)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _authority(issuer: Issuer) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _usage(*, signs_certificates: bool, commits: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=commits,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
