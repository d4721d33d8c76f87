"""EST's words on HTTP: credentials and requests read, certificates and refusals written (RFC 7030, with RFC 8951)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import math

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from iotcore.errors import EnrolmentError
from iotcore.provision import enroll, policy
from iotcore.provision.ca import Anchor
from iotcore.registry import asked

MAX_BODY_BYTES = 16 * 1024
BODY_LIMIT_S = 10.0
DOWN_S = 10  # how soon to ask again when the registry or the signing key does not answer
BASE64 = {"Content-Transfer-Encoding": "base64"}
FORBIDDEN = frozenset(
    {asked.ANCHOR, asked.CERTIFICATE, asked.KEY_ELSEWHERE, asked.KEY_REVOKED, asked.NOT_A_CHILD, asked.REJECTED}
)


def label(request: web.Request) -> Anchor | None:
    """The anchor that the path names (RFC 7030, 3.2.2: an additional path segment)."""
    segment = request.path.split("/")[3]
    return Anchor(segment) if segment in {Anchor.FIRE.value, Anchor.FIELD.value} else None


def shown(request: web.Request) -> x509.Certificate | None:
    """The certificate that the client proved to hold in the TLS handshake."""
    tls = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
    der = tls.getpeercert(binary_form=True) if tls is not None else None
    return x509.load_der_x509_certificate(der) if der else None


def credentials(request: web.Request) -> tuple[str, str]:
    """User and password of HTTP basic (RFC 7617), read as UTF-8.

    Raises:
        EnrolmentError: `token`: there are none.
    """
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    try:
        given = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError:
        given = ""
    user, colon, secret = given.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise EnrolmentError(
            asked.TOKEN, "send HTTP basic: user = device, password = its enrolment token; or user = serial, password = its secret"
        )
    return user, secret


async def body(request: web.Request) -> bytes:
    """The PKCS#10 request, DER. White space in the base64 passes; no Content-Transfer-Encoding is needed (RFC 8951, 3.1).

    Raises:
        EnrolmentError: too large, or not base64.
    """
    if request.content_type != "application/pkcs10":
        raise web.HTTPUnsupportedMediaType(text="the body is application/pkcs10, base64\n")
    try:
        async with asyncio.timeout(BODY_LIMIT_S):
            content = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise EnrolmentError(policy.Reason.TOO_LARGE.value, f"a body has at most {MAX_BODY_BYTES} bytes") from error
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(text="the request did not arrive in time\n") from error
    try:
        return base64.b64decode(b"".join(content.split()), validate=True)
    except binascii.Error as error:
        raise EnrolmentError(policy.Reason.NOT_A_REQUEST.value, "the body is not base64") from error


def refusal(error: EnrolmentError) -> web.Response:
    """The reason in words: 401 for a token, 403 for an anchor, a certificate or a key, 413 or 400 for a request (RFC 7030).

    202 where a person has to do something first, 503 where too many ask at once; both say when to ask again.
    """
    headers = {"Retry-After": str(math.ceil(error.retry_s))} if error.retry_s else {}
    if error.reason in {asked.PENDING, asked.UNBOUND}:
        status = 202
    elif error.reason == asked.BUSY:
        status = 503
    elif error.reason == enroll.TOKEN:
        status = 401
        headers["WWW-Authenticate"] = 'Basic realm="iotcore enrolment"'
    elif error.reason == policy.Reason.TOO_LARGE.value:
        status = 413
    else:
        status = 403 if error.reason in FORBIDDEN else 400
    return web.Response(status=status, text=f"{error}\n", headers=headers)


def too_often(retry_s: float) -> web.Response:
    """429: the address was refused too often."""
    return web.Response(status=429, text="too many refusals\n", headers={"Retry-After": str(math.ceil(retry_s))})


def down(said: str) -> web.Response:
    """503: what enrolment stands on does not answer."""
    return web.Response(status=503, text=f"{said}\n", headers={"Retry-After": str(DOWN_S)})


def certificates(found: list[x509.Certificate], kind: str) -> web.Response:
    """Certs-only PKCS#7, base64 without line breaks: strongSwan's client takes no other."""
    text = base64.b64encode(pkcs7.serialize_certificates(found, Encoding.DER))
    return web.Response(body=text, headers={"Content-Type": kind, **BASE64})


def attributes() -> web.Response:
    """What a request should have (RFC 7030, 4.5.2)."""
    return web.Response(body=base64.b64encode(policy.attributes()), headers={"Content-Type": "application/csrattrs", **BASE64})
