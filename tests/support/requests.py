"""Certificate requests, good and hostile, for tests of enrolment."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
Hash = hashes.SHA224 | hashes.SHA256 | hashes.SHA384


def p256() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def request(
    *names: str,
    key: Key | None = None,
    extensions: Sequence[x509.ExtensionType] = (),
    algorithm: Hash | None = None,
    organisation: str = "",
) -> bytes:
    """A PKCS#10 request in DER whose subject holds `names` as common names."""
    key = key or p256()
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)] if organisation else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it warns of the wrong lengths that we are here to make
        attributes += [x509.NameAttribute(NameOID.COMMON_NAME, name, _validate=False) for name in names]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    signed = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else algorithm or hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def resigned(replace: bytes, by: bytes) -> bytes:
    """A request for "smoke-0001" with bytes of its body replaced by as many others, and its signature right again."""
    key = p256()
    body = x509.load_der_x509_csr(request("smoke-0001", key=key)).tbs_certrequest_bytes
    assert body.count(replace) == 1
    assert len(by) == len(replace)
    body = body.replace(replace, by)
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
    signature = b"\0" + key.sign(body, ec.ECDSA(hashes.SHA256()))
    whole = body + algorithm + b"\x03" + bytes([len(signature)]) + signature
    return b"\x30\x81" + bytes([len(whole)]) + whole


def key_pem(key: Key) -> bytes:
    """The key unencrypted, PKCS#8."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """A key usage that asks for digital signature, and perhaps for signing certificates."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
