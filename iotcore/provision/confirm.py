"""After a renewal: the device shows its new certificate here once its broker has let it in with it; then the old ones end.

    broker lets it in with the new one ──► the device shows the new one in a TLS handshake here ──► those before it: superseded

No broker says which of two certificates of one name has connected, so the one who must not be silenced says it. What it shows
proves who speaks; that it has connected is its own word, and what it gives away by a false one is its own older certificate.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from cryptography import x509

from iotcore.errors import EnrolmentError, Refused
from iotcore.provision.ca import Authority

CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What is asked of the registry.

    `revoked(serial)`: somebody wants this one refused, though the lists may not say so yet. `confirm(serial)`: those before it
    are superseded from now on; which. Raises Refused for a serial that was never recorded.
    """

    authority: Authority
    revoked: Callable[[str], Awaitable[bool]]
    confirm: Callable[[str], Awaitable[Sequence[str]]]

    async def heard(self, shown: x509.Certificate | None) -> list[str]:
        """The serials (hex) that the certificate `shown` supersedes; TLS has proven that its key is the peer's.

        Raises:
            EnrolmentError: `certificate`, with what is wrong with it.
        """
        if shown is None:
            raise EnrolmentError(CERTIFICATE, "connect with the certificate that the broker has let in")
        anchor, serial = self.authority.anchor_of(shown), f"{shown.serial_number:x}"
        if anchor is None:
            raise EnrolmentError(CERTIFICATE, "it is not a certificate of this authority")
        if not self.authority.is_current(shown):
            raise EnrolmentError(CERTIFICATE, "it has expired, or is not valid yet")
        if self.authority.is_revoked(anchor, serial) or await self.revoked(serial):
            raise EnrolmentError(CERTIFICATE, "it is revoked")
        try:
            return [*await self.confirm(serial)]
        except Refused as error:
            raise EnrolmentError(CERTIFICATE, str(error)) from error
