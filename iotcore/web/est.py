"""EST (RFC 7030, with the clarifications of RFC 8951): how a device gets its first certificate, over TLS.

GET  /.well-known/est/cacerts            roots and issuing authorities: service (brokers, this listener), fire, field
GET  /.well-known/est/csrattrs           what a request should have: P-256, ECDSA with SHA-256
POST /.well-known/est/simpleenroll       HTTP basic: user = device, password = one-time token; base64 PKCS#10 in, PKCS#7 out
                                         or user = serial of a unit, password = its secret, or a token of its batch
                                         or no HTTP basic, but a gateway's certificate: a request of its registered child
POST /.well-known/est/fire/simpleenroll  the same, asking for the `fire` anchor (a gateway with fire children); likewise `field`
POST /.well-known/est/simplereenroll     the certificate to renew is the one shown in the TLS handshake; with a label likewise
GET  /crl/<anchor>-<n>.crl               the revocation list of an issuer, DER

aiohttp, because it shows the application the peer's certificate. A certificate is asked for and not required; one that is shown
must be of our fire or field anchor, else the handshake fails; one that has expired is refused in words.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from cryptography import x509

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import EnrolmentError, IotError, StartError
from iotcore.provision import enroll
from iotcore.provision.ca import Anchor, Authority, IssuedCertificate
from iotcore.provision.enroll import Caller, Enrolment
from iotcore.provision.files import SECRET_MODE, make_folder, write_whole
from iotcore.provision.refusals import PER_ADDRESS, WINDOW_S, Refusals
from iotcore.registry.admissions import Refusal
from iotcore.web import est_http

SERVER_CN = "svc.web.1.est"
NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h; Python has no name for it
ISSUED_TYPE = "application/pkcs7-mime; smime-type=certs-only"
log = logging.getLogger(__name__)
Asking = Callable[[web.Request, Caller], Awaitable[IssuedCertificate]]


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
        max_refusals: int = PER_ADDRESS,
        extras: Sequence[Callable[[web.Application], None]] = (),
    ) -> None:
        self._extras = extras  # each adds paths of its own
        self._enrolment = enrolment
        self._authority: Authority = enrolment.authority
        self._tls = tls
        self._trouble = ""  # said once, not for each request
        self._trusted: list[Any] = []  # the issuers that `tls` was told of
        self.refusals = Refusals(clock, max_refusals)
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
        application = web.Application(client_max_size=est_http.MAX_BODY_BYTES)
        for label in ("", "/fire", "/field"):
            application.router.add_get(f"/.well-known/est{label}/cacerts", self._cacerts)
            application.router.add_get(f"/.well-known/est{label}/csrattrs", self._csrattrs)
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
        label = est_http.label(request)
        issuing = [label] if label else [Anchor.FIRE, Anchor.FIELD]
        chain = [certificate for anchor in (Anchor.SERVICE, *issuing) for certificate in self._authority.chain(anchor)]
        return est_http.certificates(chain, "application/pkcs7-mime")

    async def _csrattrs(self, _: web.Request) -> web.Response:
        return est_http.attributes()

    async def _crl(self, request: web.Request) -> web.Response:
        crl = self._authority.published_crl(request.match_info["name"])
        if crl is None:
            raise web.HTTPNotFound(text="no such list\n")
        return web.Response(body=crl, content_type="application/pkix-crl")

    async def _simpleenroll(self, request: web.Request) -> web.Response:
        gateway = None if "Authorization" in request.headers else est_http.shown(request)
        if gateway is not None:
            return await self._answered(request, lambda asking, caller: self._adopted(asking, gateway, caller))
        return await self._answered(request, self._enrolled)

    async def _simplereenroll(self, request: web.Request) -> web.Response:
        return await self._answered(request, self._renewed)

    async def _enrolled(self, request: web.Request, caller: Caller) -> IssuedCertificate:
        user, secret = est_http.credentials(request)
        body = await self._body(request, "enrolment_refused", user, caller)
        return await self._enrolment.enrol(user, secret, body, est_http.label(request), caller)

    async def _adopted(self, request: web.Request, gateway: x509.Certificate, caller: Caller) -> IssuedCertificate:
        body = await self._body(request, "enrolment_refused", enroll.name_of(gateway), caller)
        return await self._enrolment.adopt(gateway, body, est_http.label(request), caller)

    async def _renewed(self, request: web.Request, caller: Caller) -> IssuedCertificate:
        shown = est_http.shown(request)
        body = await self._body(request, "renewal_refused", enroll.name_of(shown), caller)
        return await self._enrolment.renew(shown, body, est_http.label(request), caller)

    async def _body(self, request: web.Request, action: str, device: str, caller: Caller) -> bytes:
        """The request in it; one that is none is audited."""
        try:
            return await est_http.body(request)
        except EnrolmentError as error:
            await self._enrolment.refused(action, device, error, caller)
            raise

    async def _answered(self, request: web.Request, asking: Asking) -> web.Response:
        """What comes of a request; who is refused again and again has to wait.

        Who shows a certificate of ours is known by that, and not by an address: hundreds of devices may share one.
        """
        address, shown = request.remote or "", est_http.shown(request)
        subscriber = address if shown is None else f"certificate of {enroll.name_of(shown)}"
        wait_s = self.refusals.must_wait(subscriber)
        if wait_s:
            metrics.enrolments.labels("limited").inc()
            return est_http.too_often(wait_s)
        caller = _Counting(self.refusals, self._enrolment, subscriber)
        try:
            issued = await asking(request, Caller(address, caller.audited))
        except EnrolmentError as error:
            return await self._refused(error, caller)
        except IotError as error:
            if str(error) != self._trouble:
                log.error("nobody can enrol: %s", error)  # noqa: TRY400 - an expected outage needs no stack
            self._trouble = str(error)
            metrics.enrolments.labels("failed").inc()
            return est_http.down("the registry or the signing key does not answer; nothing was used up")
        self._trouble = ""
        metrics.enrolments.labels("issued").inc()
        self._follow_issuers()
        return est_http.certificates([x509.load_pem_x509_certificate(issued.pem)], ISSUED_TYPE)

    async def _refused(self, error: EnrolmentError, caller: _Counting) -> web.Response:
        if error.retry_s:
            metrics.enrolments.labels(error.reason).inc()
        else:
            metrics.enrolments.labels("refused").inc()
            await caller.count()
        return est_http.refusal(error)

    def _follow_issuers(self) -> None:
        """The issuer may be new: what was just given must be good for the next renewal."""
        try:
            now = [self._authority.issuers(anchor) for anchor in (Anchor.FIRE, Anchor.FIELD)]
            if any(one is not known for one, known in zip(now, self._trusted or [None, None], strict=True)):
                trust(self._tls, self._authority)
                self._trusted = now
        except IotError as error:  # the certificate is committed, and its holder gets it in any case
            log.error("the issuers cannot be read anew: %s", error)  # noqa: TRY400 - an expected outage needs no stack


class _Counting:
    """The refusal of one request: counted once, with an entry of its own in the audit, one for many, or none."""

    def __init__(self, refusals: Refusals, enrolment: Enrolment, subscriber: str) -> None:
        self._refusals, self._enrolment, self._subscriber = refusals, enrolment, subscriber
        self._said: str | None = None

    def audited(self) -> bool:
        if self._said is None:
            self._said = self._refusals.note(self._subscriber)
        return self._said == "each"

    async def count(self) -> None:
        """Count it if nobody has; a burst is audited once."""
        self.audited()
        if self._said == "burst":
            told = f"{self._refusals.lately} in {WINDOW_S:.0f} s; further ones of this minute are only counted"
            with contextlib.suppress(IotError):  # the metrics tell of it, too
                await self._enrolment.refuse(Refusal("enrolment_burst", "est", told, self._subscriber))


def server_context(authority: Authority, folder: Path, names: Sequence[str]) -> ssl.SSLContext:
    """The listener's TLS: a fresh certificate of the `service` anchor for `names` (DNS or IP), its files in `folder`."""
    make_folder(folder)
    pair = authority.issue_service(SERVER_CN, names)
    cert_file, key_file = folder / f"{SERVER_CN}.pem", folder / f"{SERVER_CN}.key"
    write_whole(key_file, pair.key_pem, SECRET_MODE)
    write_whole(cert_file, pair.certificate.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.num_tickets = 0  # each connection proves anew that it holds the key; a device comes once and resumes nothing
    context.load_cert_chain(cert_file, key_file)
    context.verify_mode = ssl.CERT_OPTIONAL  # a device that renews shows what it has
    context.verify_flags |= NO_CHECK_TIME  # an expired one is refused by enroll.py, which tells it why and audits it
    trust(context, authority)
    return context


def trust(context: ssl.SSLContext, authority: Authority) -> None:
    """Let in the certificates of every issuer that counts now; those from before are let in as well, and judged when they ask."""
    context.load_verify_locations(cadata="".join(authority.trust_pem(a).decode() for a in (Anchor.FIRE, Anchor.FIELD)))
