"""Enrolment: a token and a request come in, a certificate goes out; authorise, then sign.

enrol   check the request → find the anchor → use up the token → sign → store
renew   check the certificate shown → check the request → the same anchor still → sign → store

Nothing is spent before the request is known to be good: a device with a bug in its request keeps its token. The registry is not
known here; what is asked of it comes as callables.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from cryptography import x509

from iotcore.errors import EnrolmentError
from iotcore.provision import policy
from iotcore.provision.ca import Anchor, Authority, IssuedCertificate
from iotcore.wire.topics import DEVICE_NAME

TOKEN = "token"  # noqa: S105 - the name of a reason
ANCHOR = "anchor"
CERTIFICATE = "certificate"


async def _none(_device: str, _serial: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The one road to a device certificate.

    `anchors_of(device)`: the anchors it may have a certificate of, its usual one first (a gateway with fire children: field,
    fire); none for a device that is unknown or may not enrol. `use_token(token, device)`: true for exactly one caller.
    `record(certificate)`: keeps it before the device gets it. `audit(action, device, detail)`: notes a refusal.
    `revoked(device, serial)`: somebody wants this certificate refused, though the lists may not say so yet.
    """

    authority: Authority
    anchors_of: Callable[[str], Awaitable[Sequence[Anchor]]]
    use_token: Callable[[str, str], Awaitable[bool]]
    record: Callable[[IssuedCertificate], Awaitable[None]]
    audit: Callable[[str, str, str], Awaitable[None]]
    revoked: Callable[[str, str], Awaitable[bool]] = _none

    async def enrol(self, device: str, token: str, csr_der: bytes, anchor: Anchor | None = None) -> IssuedCertificate:
        """A certificate of `anchor` (None: the device's usual one) for `device`.

        Raises:
            EnrolmentError: `token`, `anchor`, or a reason of policy.Reason; the refusal is audited.
        """
        try:
            request = policy.check(csr_der, device)
            chosen = await self._authorise(device, token, anchor)
        except EnrolmentError as error:
            await self.audit("enrolment_refused", device, str(error))
            raise
        certificate = self.authority.issue_device(chosen, request.key, request.device)
        await self.record(certificate)
        return certificate

    async def renew(self, shown: x509.Certificate | None, csr_der: bytes, anchor: Anchor | None = None) -> IssuedCertificate:
        """Another certificate for the holder of `shown`: same name, same anchor, the key of the request.

        TLS has proven possession; time, revocation and the registry are judged here.
        The old certificate stays good: it is revoked when the new one has connected, or runs out.

        Raises:
            EnrolmentError: `certificate`, `anchor`, or a reason of policy.Reason; the refusal is audited.
        """
        device = name_of(shown)
        try:
            chosen = await self._still(shown, device, anchor)
            request = policy.check(csr_der, device)
        except EnrolmentError as error:
            await self.audit("renewal_refused", device, str(error))
            raise
        certificate = self.authority.issue_device(chosen, request.key, request.device)
        await self.record(certificate)
        return certificate

    async def _still(self, shown: x509.Certificate | None, device: str, wanted: Anchor | None) -> Anchor:
        """The anchor of a certificate that is valid, not revoked, and of a device that may still have one of it."""
        if shown is None:
            raise EnrolmentError(CERTIFICATE, "connect with the certificate that is to be renewed")
        anchor = self.authority.anchor_of(shown)
        if anchor is None or not DEVICE_NAME.match(device):
            raise EnrolmentError(CERTIFICATE, "it is not a device's certificate of this authority")
        if not self.authority.is_current(shown):
            raise EnrolmentError(CERTIFICATE, "it has expired, or is not valid yet; enrol anew with a token")
        serial = f"{shown.serial_number:x}"
        if self.authority.is_revoked(anchor, serial) or await self.revoked(device, serial):
            raise EnrolmentError(CERTIFICATE, "it is revoked")
        if wanted not in (None, anchor):
            raise EnrolmentError(ANCHOR, f"a certificate of the {anchor.value} anchor is renewed as such")
        if anchor not in await self.anchors_of(device):
            raise EnrolmentError(ANCHOR, f"{device} may have no certificate of the {anchor.value} anchor (any more)")
        return anchor

    async def _authorise(self, device: str, token: str, anchor: Anchor | None) -> Anchor:
        anchors = await self.anchors_of(device)
        if anchors and anchor is not None and anchor not in anchors:
            raise EnrolmentError(ANCHOR, f"{device} gets no certificate of the {anchor.value} anchor")
        if not anchors or not await self.use_token(token, device):
            raise EnrolmentError(TOKEN, "unknown, used, expired, or bound to another device; ask for a new one")
        return anchor or anchors[0]


def name_of(certificate: x509.Certificate | None) -> str:
    """The one common name of a certificate; "" for none."""
    if certificate is None:
        return ""
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""
