"""What a certificate request may ask for: each refusal has a name, and a request that asks for nothing passes."""

from __future__ import annotations

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import assume, given
from hypothesis import strategies as st

from iotcore.errors import EnrolmentError
from iotcore.provision import policy
from iotcore.provision.policy import Reason
from tests.support.requests import key_usage, p256, request, resigned

DEVICE = "smoke-0001"
SHA1_REQUEST = base64.b64decode(  # openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=smoke-0001 -sha1
    "MIHNMHcCAQAwFTETMBEGA1UEAwwKc21va2UtMDAwMTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABKfkWifC8vqtfUWi9tINGCqi"
    "g4NoaC4zhOFMJ4hp7WG8t2uODsUhatloorosBc/O1zsPWjr37hl4kQ7CXRLBtC+gADAJBgcqhkjOPQQBA0cAMEQCIDSVBKpM3iC/"
    "z6/eQnKwOP2O7/NSmya+vTYxa/FNr97WAiAffFpsEukStdO2iA4GiVz1je4S+u0D+BdeByjAa31GtQ=="
)
GOOD = request(DEVICE)


def tampered() -> bytes:
    """A good request whose last signature byte is another one."""
    return GOOD[:-1] + bytes([GOOD[-1] ^ 1])


def with_name(name: x509.GeneralName) -> bytes:
    return request(DEVICE, extensions=[x509.SubjectAlternativeName([name])])


HOSTILE = {
    "empty": (b"", Reason.NOT_A_REQUEST),
    "text": (b"hello", Reason.NOT_A_REQUEST),
    "cut short": (request(DEVICE)[:-5], Reason.NOT_A_REQUEST),
    "trailing bytes": (request(DEVICE) + b"x", Reason.NOT_A_REQUEST),
    "another version": (resigned(b"\x02\x01\x00", b"\x02\x01\x07"), Reason.NOT_A_REQUEST),
    "too large": (b"\x30" * (policy.MAX_REQUEST_BYTES + 1), Reason.TOO_LARGE),
    "signature of another key": (tampered(), Reason.NO_POSSESSION),
    "SHA-1": (SHA1_REQUEST, Reason.WEAK_SIGNATURE),
    "SHA-224": (request(DEVICE, algorithm=hashes.SHA224()), Reason.WEAK_SIGNATURE),
    "RSA 2048": (request(DEVICE, key=rsa.generate_private_key(65537, 2048)), Reason.KEY_KIND),
    "P-384": (request(DEVICE, key=ec.generate_private_key(ec.SECP384R1())), Reason.KEY_KIND),
    "another device": (request("smoke-0002"), Reason.WRONG_NAME),
    "another case": (request(DEVICE.upper()), Reason.WRONG_NAME),
    "no name": (request(), Reason.BAD_NAME),
    "two names": (request(DEVICE, "smoke-0002"), Reason.BAD_NAME),
    "a service": (request("svc.fire.1.in"), Reason.BAD_NAME),
    "a slash": (request("smoke-0001/up"), Reason.BAD_NAME),
    "a wildcard": (request("+"), Reason.BAD_NAME),
    "a line break after the name": (request(DEVICE + "\n"), Reason.BAD_NAME),
    "a zero byte": (request(DEVICE + "\0evil"), Reason.BAD_NAME),
    "a name of 65": (request("a" * 65), Reason.BAD_NAME),
    "a name of no encoding": (resigned(b"smoke", b"\xff\xfe\xff\xfe\xff"), Reason.BAD_NAME),
    "a name that is a bit string": (resigned(b"\x0c\x0asmoke", b"\x03\x0a\x00moke"), Reason.BAD_NAME),
    "an empty name": (request(""), Reason.BAD_NAME),
    "CA": (request(DEVICE, extensions=[x509.BasicConstraints(ca=True, path_length=None)]), Reason.CA_FLAG),
    "signs certificates": (request(DEVICE, extensions=[key_usage(signs_certificates=True)]), Reason.CA_FLAG),
    "server": (request(DEVICE, extensions=[x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])]), Reason.FOREIGN_USAGE),
    "any usage": (
        request(DEVICE, extensions=[x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])]),
        Reason.FOREIGN_USAGE,
    ),
    "a host name": (with_name(x509.DNSName("broker.example")), Reason.FOREIGN_NAME),
    "its own name as a host": (with_name(x509.DNSName(DEVICE)), Reason.FOREIGN_NAME),
    "another device's URN": (with_name(x509.UniformResourceIdentifier("urn:dev:iotcore:smoke-0002")), Reason.FOREIGN_NAME),
    "an unknown extension": (
        request(DEVICE, extensions=[x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.32473.1"), b"\x05\x00")]),
        Reason.FOREIGN_EXTENSION,
    ),
    "name constraints": (
        request(DEVICE, extensions=[x509.NameConstraints([x509.DNSName("x")], None)]),
        Reason.FOREIGN_EXTENSION,
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_request_is_refused_by_name(case: str) -> None:
    csr, reason = HOSTILE[case]
    with pytest.raises(EnrolmentError) as refusal:
        policy.check(csr, DEVICE)
    assert refusal.value.reason == reason.value


@pytest.mark.parametrize("case", [case for case, (_, reason) in HOSTILE.items() if reason is not Reason.WRONG_NAME])
def test_a_request_for_whichever_device_is_judged_likewise(case: str) -> None:
    csr, reason = HOSTILE[case]
    with pytest.raises(EnrolmentError) as refusal:
        policy.check(csr)
    assert refusal.value.reason == reason.value
    assert policy.check(GOOD).name == DEVICE


def test_every_reason_has_a_case() -> None:
    assert {reason for _, reason in HOSTILE.values()} == set(Reason)


@pytest.mark.parametrize("key", [p256(), ed25519.Ed25519PrivateKey.generate()], ids=["P-256", "Ed25519"])
def test_a_plain_request_passes_with_its_own_key(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> None:
    request_ = policy.check(request(DEVICE, key=key), DEVICE)
    assert (request_.name, request_.key, len(request_.key_hash)) == (DEVICE, key.public_key(), 64)


def test_asking_for_what_a_device_gets_anyway_passes() -> None:
    asked = [
        x509.BasicConstraints(ca=False, path_length=None),
        key_usage(signs_certificates=False),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"urn:dev:iotcore:{DEVICE}")]),
    ]
    assert policy.check(request(DEVICE, extensions=asked, organisation="Maker Ltd"), DEVICE).name == DEVICE


@given(st.binary(max_size=600))
def test_no_bytes_whatever_cause_anything_but_a_named_refusal(noise: bytes) -> None:
    with pytest.raises(EnrolmentError) as refusal:
        policy.check(noise, DEVICE)
    assert refusal.value.reason in {reason.value for reason in Reason}


@given(st.integers(min_value=0), st.binary(min_size=1, max_size=4))
def test_a_request_changed_on_its_way_is_refused(position: int, patch: bytes) -> None:
    at = position % len(GOOD)
    changed = GOOD[:at] + patch + GOOD[at + len(patch) :]
    assume(changed != GOOD)
    with pytest.raises(EnrolmentError):
        policy.check(changed, DEVICE)
