"""EST as a client (RFC 7030, with RFC 8951): how a gateway at a site gets its certificates, and renews them.

simpleenroll      HTTP basic: user = device, password = one-time token; for the first certificate
simplereenroll    the certificate that is to be renewed is shown in the TLS handshake

Blocking, with the standard library only: once in 45 days, in a thread. The listener is trusted through the service root that the
gateway was delivered with, and by its name.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from iotcore.errors import EnrolmentError
from iotcore.provision.ca import Anchor

CONFIRM = "/iotcore/v1/confirm"
REQUEST_LIMIT_S = 30.0
MAX_ANSWER_BYTES = 64 * 1024
TOLD_CHARACTERS = 300  # of what the listener says when it refuses


@dataclass(frozen=True, slots=True)
class EstServer:
    """An enrolment listener: "https://host:8443", and the root that it is trusted by."""

    url: str
    trust: Path

    def enrol(self, request: bytes, anchor: Anchor, device: str, token: str) -> bytes:
        """The first certificate: a certs-only PKCS#7, DER, for a PKCS#10 request, DER.

        Raises:
            EnrolmentError: refused (with what the listener says), pending, unreachable, or an answer that makes no sense.
        """
        basic = base64.b64encode(f"{device}:{token}".encode()).decode()
        return self._post(f"{anchor.value}/simpleenroll", request, {"Authorization": f"Basic {basic}"}, self._tls())

    def renew(self, request: bytes, anchor: Anchor, identity: Path) -> bytes:
        """Another certificate for the holder of `identity` (PEM, key and certificate); errors as `enrol`."""
        tls = self._tls()
        _shown(tls, identity)
        return self._post(f"{anchor.value}/simplereenroll", request, {}, tls)

    def confirm(self, identity: Path) -> None:
        """The broker has let us in with `identity`: the certificates before it may end (web/confirm.py); errors as `enrol`."""
        tls = self._tls()
        _shown(tls, identity)
        _content(*self._asked(CONFIRM, b"", {}, tls))

    def _tls(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(self.trust))
        except (OSError, ssl.SSLError) as error:
            raise EnrolmentError("trust", f"{self.trust} cannot be used: {error}") from error

    def _post(self, path: str, request: bytes, headers: dict[str, str], tls: ssl.SSLContext) -> bytes:
        kind = {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
        answer = _content(*self._asked(f"/.well-known/est/{path}", base64.b64encode(request), {**kind, **headers}, tls))
        try:
            return base64.b64decode(b"".join(answer.split()), validate=True)
        except binascii.Error as error:
            raise EnrolmentError("unreadable", "the answer is not base64") from error

    def _asked(
        self, path: str, body: bytes, headers: dict[str, str], tls: ssl.SSLContext
    ) -> tuple[http.client.HTTPResponse, bytes]:
        at = urlsplit(self.url)
        connection = http.client.HTTPSConnection(at.hostname or "", at.port or 443, timeout=REQUEST_LIMIT_S, context=tls)
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            return response, response.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise EnrolmentError("unreachable", f"{self.url}: {error}") from error
        finally:
            connection.close()


def _shown(tls: ssl.SSLContext, identity: Path) -> None:
    """Show `identity` (PEM, key and certificate) in the handshake."""
    try:
        tls.load_cert_chain(identity)
    except (OSError, ssl.SSLError) as error:
        raise EnrolmentError("identity", f"{identity} cannot be used: {error}") from error


def _content(response: http.client.HTTPResponse, answer: bytes) -> bytes:
    if response.status == HTTPStatus.ACCEPTED:  # RFC 7030, 4.2.3: a person has to approve first
        said = answer[:TOLD_CHARACTERS].decode(errors="replace").strip()
        raise EnrolmentError("pending", f"{said}; ask again in {response.headers.get('Retry-After', '?')} s")
    if response.status != HTTPStatus.OK:
        said = answer[:TOLD_CHARACTERS].decode(errors="replace").strip()
        raise EnrolmentError(f"http_{response.status}", said)
    if len(answer) > MAX_ANSWER_BYTES:
        raise EnrolmentError("unreadable", f"the answer has more than {MAX_ANSWER_BYTES} bytes")
    return answer
