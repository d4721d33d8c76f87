"""POST /iotcore/v1/confirm on the enrolment listener: "my broker has let me in with the certificate that I show you".

The answer is JSON, `{"superseded": ["<serial>", …]}`: the older certificates of the same name that end now, in hex; empty when it
was said before. A device may say it after every connect.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from cryptography import x509

from iotcore.errors import EnrolmentError, StoreError
from iotcore.provision.confirm import Confirmation

PATH = "/iotcore/v1/confirm"
RETRY_S = 60


def route(confirmation: Confirmation) -> Callable[[web.Application], None]:
    """What adds the path to an application that listens with TLS."""

    async def confirmed(request: web.Request) -> web.Response:
        try:
            return web.json_response({"superseded": await confirmation.heard(shown(request))})
        except EnrolmentError as error:
            raise web.HTTPForbidden(text=f"{error}\n") from error
        except StoreError as error:
            raise web.HTTPServiceUnavailable(text=f"{error}\n", headers={"Retry-After": str(RETRY_S)}) from error

    def add(application: web.Application) -> None:
        application.router.add_post(PATH, confirmed)

    return add


def shown(request: web.Request) -> x509.Certificate | None:
    """The certificate that the client proved to hold in the TLS handshake."""
    tls = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
    der = tls.getpeercert(binary_form=True) if tls is not None else None
    return x509.load_der_x509_certificate(der) if der else None
