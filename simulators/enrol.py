"""How a simulated device gets its certificate: EST `simpleenroll` (RFC 7030, with RFC 8951), as a maker's firmware would do it.

The key is made here and never leaves its folder; the claim token is the HTTP basic password; the listener is trusted only through
the service CA file that the device was delivered with.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import os
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID

from iotcore.errors import EnrolmentError
from iotcore.wire.arrival import Endpoint

REQUEST_LIMIT_S = 30.0
SPARE = dt.timedelta(hours=1)  # a certificate with less left than this counts as none
OK, PENDING = 200, 202  # RFC 7030, 4.2.3: 202 means that a person has to approve first


@dataclass(frozen=True, slots=True)
class Identity:
    """The PEM files by which a device is known, and whom it trusts."""

    ca_file: Path
    cert_file: Path
    key_file: Path

    def endpoint(self, host: str, port: int) -> Endpoint:
        """A broker to meet with this identity."""
        return Endpoint(host, port, self.ca_file, self.cert_file, self.key_file)


async def enrol(url: str, token: str, device: str, ca_file: Path, folder: Path, *, anchor: str = "") -> Identity:
    """Get a certificate for `device` from the EST listener at `url` ("https://host:8443"), or keep the valid one in `folder`.

    `anchor` ("fire" or "field") asks for one of the two where a gateway needs both.

    Raises:
        EnrolmentError: refused by the listener (with what it says), unreachable, pending approval, or not ours.
    """
    name = f"{device}-{anchor}" if anchor else device
    identity = Identity(ca_file, folder / f"{name}.pem", folder / f"{name}.key")
    key = made_key(identity.key_file)
    if _is_valid(identity.cert_file, key, device):
        return identity
    path = f"/.well-known/est/{anchor}/simpleenroll" if anchor else "/.well-known/est/simpleenroll"
    answer = await _post(url.rstrip("/") + path, device, token, request_for(device, key), ca_file)
    store(identity.cert_file, own_certificate(answer, key, device))
    return identity


def valid_identity(device: str, ca_file: Path, folder: Path) -> Identity | None:
    """What `enrol` got for `device` before, if it is still good."""
    identity = Identity(ca_file, folder / f"{device}.pem", folder / f"{device}.key")
    if not identity.key_file.exists():
        return None
    return identity if _is_valid(identity.cert_file, made_key(identity.key_file), device) else None


async def claim(url: str, serial: str, secret: str, ca_file: Path, folder: Path, *, limit_s: float = 0.0) -> tuple[str, Identity]:
    """Enrol a unit out of its box: it knows its serial and its secret, and hears which device it is; that name, and its identity.

    It has no place yet, or a person has to approve: then it asks again when it was told to, for `limit_s`.

    Raises:
        EnrolmentError: as `enrol`; `pending` when the time is over.
    """
    identity = Identity(ca_file, folder / f"{serial}.pem", folder / f"{serial}.key")
    key = made_key(identity.key_file)
    body = request_for(serial, key)
    until_s = time.monotonic() + limit_s
    while True:
        try:
            answer = await _post(f"{url.rstrip('/')}/.well-known/est/simpleenroll", serial, secret, body, ca_file)
        except EnrolmentError as error:
            if not error.retry_s or time.monotonic() + error.retry_s > until_s:
                raise
            await asyncio.sleep(error.retry_s)
        else:
            certificate = own_certificate(answer, key, "")
            store(identity.cert_file, certificate)
            return _names(certificate)[0], identity


def expired(device: str, folder: Path) -> tuple[Path, Path]:
    """A certificate and key that a device made for itself and that ended yesterday; to be refused.

    No authority has signed it, so that a broker may name that before it names its age; one of the broker's own authority that has
    run out is told by its date alone.
    """
    key = made_key(folder / f"{device}-expired.key")
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)]), dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(days=30)).not_valid_after(now - dt.timedelta(days=1))
    store(folder / f"{device}-expired.pem", builder.sign(key, hashes.SHA256()))
    return folder / f"{device}-expired.pem", folder / f"{device}-expired.key"


def request_for(name: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A PKCS#10 request for `name`, base64."""
    request = x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
    return base64.b64encode(request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))


async def _post(url: str, device: str, token: str, body: bytes, ca_file: Path) -> bytes:
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(ca_file))
    basic = base64.b64encode(f"{device}:{token}".encode()).decode()
    headers = {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64", "Authorization": f"Basic {basic}"}
    limit = aiohttp.ClientTimeout(total=REQUEST_LIMIT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.post(url, data=body, headers=headers, ssl=context, allow_redirects=False) as response,
        ):
            answer = await response.read()
            if response.status == PENDING:
                raise EnrolmentError("pending", answer[:500].decode(errors="replace").strip(), _seconds(response))
            if response.status != OK:
                raise EnrolmentError(f"http_{response.status}", answer[:500].decode(errors="replace").strip())
            return answer
    except (aiohttp.ClientError, TimeoutError) as error:
        raise EnrolmentError("unreachable", f"{url}: {error}") from error


def own_certificate(answer: bytes, key: ec.EllipticCurvePrivateKey, device: str) -> x509.Certificate:
    """The certificate of our key (and, unless it is "", of this name) among those in a base64 certs-only PKCS#7."""
    try:
        certificates = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer))
    except ValueError as error:
        raise EnrolmentError("unreadable", f"the answer is no base64 PKCS#7: {error}") from error
    for certificate in certificates:
        if _is_ours(certificate, key, device):
            return certificate
    raise EnrolmentError("not_ours", "no certificate in the answer is for our key and name")


def _is_ours(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, device: str) -> bool:
    names = _names(certificate)
    return certificate.public_key() == key.public_key() and (names == [device] or (not device and len(names) == 1))


def _names(certificate: x509.Certificate) -> list[str]:
    return [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _seconds(response: aiohttp.ClientResponse) -> float:
    """When to ask again; a minute where it does not say."""
    said = response.headers.get("Retry-After", "")
    return float(said) if said.isdecimal() else 60.0


def _is_valid(cert_file: Path, key: ec.EllipticCurvePrivateKey, device: str) -> bool:
    if not cert_file.exists():
        return False
    try:
        certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
    except ValueError:
        return False
    now = dt.datetime.now(dt.UTC)
    return (
        _is_ours(certificate, key, device) and certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - SPARE
    )


def made_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The key in `path`, made at first use, readable by its owner only."""
    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, pem, 0o600)
        return key
    found = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise EnrolmentError("key", f"{path} holds no elliptic-curve key; remove it to make a new one")
    return found


def store(path: Path, certificate: x509.Certificate) -> None:
    """Write it, whole or not at all."""
    _write(path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, with its rights from the first byte on."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
