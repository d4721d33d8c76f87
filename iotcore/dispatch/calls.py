"""The signed address by which a telephone company tells which key was pressed in a call. Pure.

Gateways cannot be taught to sign, but each calls back where it was told to: the address names the call, its time, and our own
signature of both. It is good for one call and one hour.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

import msgspec

from iotcore.errors import Refused


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One call: to whom about which incident, and until when (seconds since 1970) its answer counts."""

    incident: str
    id: str
    name: str
    expires_s: int


def token(secret: str, call: Call) -> str:
    """The last part of the address."""
    body = base64.urlsafe_b64encode(msgspec.json.encode(call)).rstrip(b"=").decode()
    return f"{body}.{_signature(secret, body)}"


def read(secret: str, text: str, now_s: float) -> Call:
    """The call that an address is for.

    Raises:
        Refused: `bad_signature` or `expired`.
    """
    body, _, signature = text.partition(".")
    if not hmac.compare_digest(signature.encode(), _signature(secret, body).encode()):
        raise Refused("bad_signature", "not an address that we gave to anybody")
    try:
        call = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=Call)
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:  # what we signed ourselves is well formed
        raise Refused("bad_signature", str(error)) from error
    if now_s > call.expires_s:
        raise Refused("expired", "the call was too long ago")
    return call


def _signature(secret: str, body: str) -> str:
    return hmac.new(secret.encode(), b"call." + body.encode(), hashlib.sha256).hexdigest()
