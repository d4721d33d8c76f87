"""EST (RFC 7030, with the clarifications of RFC 8951): how a device gets its first certificate, over TLS.

GET  /.well-known/est/cacerts            roots and issuing authorities: service (brokers, this listener), fire, field
POST /.well-known/est/simpleenroll       HTTP basic: user = device, password = one-time token; base64 PKCS#10 in, PKCS#7 out
POST /.well-known/est/fire/simpleenroll  the same, asking for the `fire` anchor (a gateway with fire children); likewise `field`
POST /.well-known/est/simplereenroll     the certificate to renew is the one shown in the TLS handshake; with a label likewise
GET  /crl/<anchor>-<n>.crl               the revocation list of an issuer, DER

aiohttp, because it shows the application the peer's certificate. A certificate is asked for and not required; one that is shown
must be of our fire or field anchor, else the handshake fails; one that has expired is refused in words.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from iotcore.clock import Clock
from iotcore.errors import EnrolmentError, SigningError, StartError
from iotcore.provision import enroll, policy
from iotcore.provision.ca import Anchor, Authority, IssuedCertificate
from iotcore.provision.enroll import Enrolment
from iotcore.provision.files import SECRET_MODE, make_folder, write_whole

SERVER_CN = "svc.web.1.est"
MAX_BODY_BYTES = 16 * 1024
BODY_LIMIT_S = 10.0
NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h; Python has no name for it
MAX_REFUSALS = (
    20  # an address that is refused more often within REFUSALS_WINDOW_S waits; bounds the audit, not the odds: 128 bits
)
REFUSALS_WINDOW_S = 60.0
MAX_ADDRESSES = 10_000


@dataclass(slots=True)
class _Refusals:
    """How often each address was refused lately; the oldest address is forgotten when there are too many."""

    clock: Clock
    limit: int
    counts: OrderedDict[str, tuple[float, int]] = field(default_factory=OrderedDict)

    def exhausted(self, address: str) -> bool:
        since, count = self.counts.get(address, (0.0, 0))
        return count >= self.limit and self.clock.monotonic_s() - since < REFUSALS_WINDOW_S

    def note(self, address: str) -> None:
        now = self.clock.monotonic_s()
        since, count = self.counts.pop(address, (now, 0))
        if now - since >= REFUSALS_WINDOW_S:
            since, count = now, 0
        self.counts[address] = (since, count + 1)
        while len(self.counts) > MAX_ADDRESSES:
            self.counts.popitem(last=False)


class EstListener:
    """The TLS listener; an async context manager. `port` 0 takes a free one, which `port` then names."""

    def __init__(
        self,
        enrolment: Enrolment,
        tls: ssl.SSLContext,
        clock: Clock,
        *,
        host: str,
        port: int,
        max_refusals: int = MAX_REFUSALS,
        extras: Sequence[Callable[[web.Application], None]] = (),
    ) -> None:
        self._extras = extras  # each adds paths of its own
        self._enrolment = enrolment
        self._authority: Authority = enrolment.authority
        self._tls = tls
        self._refusals = _Refusals(clock, max_refusals)
        self._runner: web.AppRunner | None = None
        self.host = host
        self.port = port

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen.

        Raises:
            StartError: the port is taken or the host is not ours.
        """
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        for label in ("", "/fire", "/field"):
            application.router.add_get(f"/.well-known/est{label}/cacerts", self._cacerts)
            application.router.add_post(f"/.well-known/est{label}/simpleenroll", self._simpleenroll)
            application.router.add_post(f"/.well-known/est{label}/simplereenroll", self._simplereenroll)
        application.router.add_get("/crl/{name}.crl", self._crl)
        for add in self._extras:
            add(application)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, ssl_context=self._tls)
        try:
            await site.start()
        except OSError as error:
            await self.stop()
            raise StartError(
                f"The enrolment listener cannot listen on {self.host}:{self.port}: {error.strerror}",
                "Stop the program that uses the port, or set web.est_port (or web.est_host) to another.",
            ) from error
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening; requests under way get a moment to finish."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _cacerts(self, request: web.Request) -> web.Response:
        label = _label(request)
        issuing = [label] if label else [Anchor.FIRE, Anchor.FIELD]
        chain = [certificate for anchor in (Anchor.SERVICE, *issuing) for certificate in self._authority.chain(anchor)]
        return _certificates(chain, "application/pkcs7-mime")

    async def _crl(self, request: web.Request) -> web.Response:
        crl = self._authority.published_crl(request.match_info["name"])
        if crl is None:
            raise web.HTTPNotFound(text="no such list\n")
        return web.Response(body=crl, content_type="application/pkix-crl")

    async def _simpleenroll(self, request: web.Request) -> web.Response:
        async def enrol() -> IssuedCertificate:
            device, token = _credentials(request)
            body = await self._body(request, "enrolment_refused", device)
            return await self._enrolment.enrol(device, token, body, _label(request))

        return await self._issued(request, enrol())

    async def _simplereenroll(self, request: web.Request) -> web.Response:
        async def renew() -> IssuedCertificate:
            shown = _shown(request)
            body = await self._body(request, "renewal_refused", enroll.name_of(shown))
            return await self._enrolment.renew(shown, body, _label(request))

        return await self._issued(request, renew())

    async def _body(self, request: web.Request, action: str, device: str) -> bytes:
        """The request in it; one that is none is audited."""
        try:
            return await _request_body(request)
        except EnrolmentError as error:
            await self._enrolment.audit(action, device, str(error))
            raise

    async def _issued(self, request: web.Request, issuing: Coroutine[Any, Any, IssuedCertificate]) -> web.Response:
        """What comes of a request; an address that is refused again and again has to wait."""
        address = request.remote or ""
        if self._refusals.exhausted(address):
            issuing.close()
            raise web.HTTPTooManyRequests(text="too many refusals\n", headers={"Retry-After": f"{REFUSALS_WINDOW_S:.0f}"})
        try:
            certificate = await issuing
        except EnrolmentError as error:
            self._refusals.note(address)
            raise _http(error) from error
        except SigningError as error:
            raise web.HTTPServiceUnavailable(text=f"{error}\n", headers={"Retry-After": "60"}) from error
        trust(self._tls, self._authority)  # the issuer may be new: what was just given must be good for the next renewal
        issued = x509.load_pem_x509_certificate(certificate.pem)
        return _certificates([issued], "application/pkcs7-mime; smime-type=certs-only")


def server_context(authority: Authority, folder: Path, names: Sequence[str]) -> ssl.SSLContext:
    """The listener's TLS: a fresh certificate of the `service` anchor for `names` (DNS or IP), its files in `folder`."""
    make_folder(folder)
    pair = authority.issue_service(SERVER_CN, names)
    cert_file, key_file = folder / f"{SERVER_CN}.pem", folder / f"{SERVER_CN}.key"
    write_whole(key_file, pair.key_pem, SECRET_MODE)
    write_whole(cert_file, pair.certificate.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert_file, key_file)
    context.verify_mode = ssl.CERT_OPTIONAL  # a device that renews shows what it has
    context.verify_flags |= NO_CHECK_TIME  # an expired one is refused by enroll.py, which tells it why and audits it
    trust(context, authority)
    return context


def trust(context: ssl.SSLContext, authority: Authority) -> None:
    """Let in the certificates of every issuer that counts now; those from before are let in as well, and judged when they ask."""
    context.load_verify_locations(cadata="".join(authority.trust_pem(a).decode() for a in (Anchor.FIRE, Anchor.FIELD)))


def _label(request: web.Request) -> Anchor | None:
    """The anchor that the path names (RFC 7030, 3.2.2: an additional path segment)."""
    segment = request.path.split("/")[3]
    return Anchor(segment) if segment in {Anchor.FIRE.value, Anchor.FIELD.value} else None


def _shown(request: web.Request) -> x509.Certificate | None:
    """The certificate that the client proved to hold in the TLS handshake."""
    tls = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
    der = tls.getpeercert(binary_form=True) if tls is not None else None
    return x509.load_der_x509_certificate(der) if der else None


def _credentials(request: web.Request) -> tuple[str, str]:
    """User and password of HTTP basic (RFC 7617), read as UTF-8."""
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    try:
        given = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError:
        given = ""
    device, colon, token = given.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise EnrolmentError(enroll.TOKEN, "send HTTP basic: user = device, password = its enrolment token")
    return device, token


async def _request_body(request: web.Request) -> bytes:
    """The PKCS#10 request, DER. White space in the base64 passes; no Content-Transfer-Encoding is needed (RFC 8951, 3.1)."""
    if request.content_type != "application/pkcs10":
        raise web.HTTPUnsupportedMediaType(text="the body is application/pkcs10, base64\n")
    try:
        async with asyncio.timeout(BODY_LIMIT_S):
            body = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise EnrolmentError(policy.Reason.TOO_LARGE.value, f"a body has at most {MAX_BODY_BYTES} bytes") from error
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(text="the request did not arrive in time\n") from error
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as error:
        raise EnrolmentError(policy.Reason.NOT_A_REQUEST.value, "the body is not base64") from error


def _http(error: EnrolmentError) -> web.HTTPException:
    """The reason in words: 401 for a token, 403 for an anchor or a certificate, 413 or 400 for a request (RFC 7030, 4.2.3)."""
    if error.reason == enroll.TOKEN:
        return web.HTTPUnauthorized(text=f"{error}\n", headers={"WWW-Authenticate": 'Basic realm="iotcore enrolment"'})
    if error.reason == policy.Reason.TOO_LARGE.value:
        return web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, text=f"{error}\n")
    return (web.HTTPForbidden if error.reason in {enroll.ANCHOR, enroll.CERTIFICATE} else web.HTTPBadRequest)(text=f"{error}\n")


def _certificates(certificates: list[x509.Certificate], kind: str) -> web.Response:
    """Certs-only PKCS#7, base64 without line breaks: strongSwan's client takes no other."""
    text = base64.b64encode(pkcs7.serialize_certificates(certificates, Encoding.DER))
    return web.Response(body=text, headers={"Content-Type": kind, "Content-Transfer-Encoding": "base64"})
