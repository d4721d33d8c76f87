"""Enrolment: a right and a request come in, a certificate goes out; what the registry cannot know is checked here.

enrol   check the request ─┐
renew   check the certificate shown, then the request ─┼─► admit (registry: the right, the device, the key) ─► sign ─► commit
adopt   a gateway's certificate and its child's request ─┘

Nothing is spent before the request is known to be good: a device with a bug in its request keeps its token. The registry calls
whoever signs when it admits a request, before the commit that uses the right up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cryptography import x509

from iotcore.errors import EnrolmentError
from iotcore.provision import policy
from iotcore.provision.ca import Anchor, Authority, IssuedCertificate
from iotcore.registry.admissions import Refusal
from iotcore.registry.asked import ANCHOR, CERTIFICATE, TOKEN, Asked, ByCertificate, BySecret
from iotcore.registry.records import Certificate
from iotcore.registry.tokens import hash_of
from iotcore.wire.topics import DEVICE_NAME

__all__ = ["ANCHOR", "CERTIFICATE", "TOKEN", "Caller", "Enrolment", "name_of"]


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: its address, and whether its refusals may take entries of their own in the audit (asked at each)."""

    address: str = ""
    audited: Callable[[], bool] = _always


@dataclass(slots=True)
class _Issuing:
    """Signs for one request; keeps what it signed, for the answer."""

    authority: Authority
    request: policy.Request
    issued: IssuedCertificate | None = field(default=None)

    def __call__(self, device: str, anchor: str) -> Certificate:
        issued = self.issued = self.authority.issue_device(Anchor(anchor), self.request.key, device)
        return Certificate(
            issued.serial, issued.cn, anchor, int(issued.not_after_ms), issued.fingerprint, key=self.request.key_hash
        )


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The one road to a device certificate.

    `admit(asked)`: judges, has it signed, and commits (`registry.admissions`). `refuse(refusal)`: audits what never comes so far.
    """

    authority: Authority
    admit: Callable[[Asked], Awaitable[Certificate]]
    refuse: Callable[[Refusal], Awaitable[None]]

    async def enrol(
        self, name: str, secret: str, csr_der: bytes, anchor: Anchor | None = None, caller: Caller | None = None
    ) -> IssuedCertificate:
        """A certificate of `anchor` (None: the device's usual one) for whom `secret` is good: a token, or the secret of a unit.

        `name` is the device's, or the serial of a unit: then the certificate names the device that the unit was bound to.

        Raises:
            EnrolmentError: a reason of registry.asked or policy.Reason; the refusal is audited. With `retry_s`: ask again then.
        """
        caller = caller or Caller()
        try:
            request = policy.check(csr_der, name)
        except EnrolmentError as error:
            await self.refused("enrolment_refused", name, error, caller)
            raise
        return await self._admitted(request, BySecret(hash_of(secret)), anchor, caller)

    async def renew(
        self, shown: x509.Certificate | None, csr_der: bytes, anchor: Anchor | None = None, caller: Caller | None = None
    ) -> IssuedCertificate:
        """Another certificate for the holder of `shown`: same name, same anchor, the key of the request, also the old one.

        TLS has proven possession; time, revocation and the registry are judged here.
        The old certificate stays good: it is revoked when the new one has connected, or runs out.

        Raises:
            EnrolmentError: `certificate`, `anchor`, or a reason of policy.Reason; the refusal is audited.
        """
        caller, device = caller or Caller(), name_of(shown)
        try:
            right, of = self._holder(shown, device, anchor)
            request = policy.check(csr_der, device)
        except EnrolmentError as error:
            await self.refused("renewal_refused", device, error, caller)
            raise
        return await self._admitted(request, right, of, caller)

    async def adopt(
        self, shown: x509.Certificate | None, csr_der: bytes, anchor: Anchor | None = None, caller: Caller | None = None
    ) -> IssuedCertificate:
        """A certificate for a device that is registered as a child of the gateway that shows `shown`.

        Raises:
            EnrolmentError: `certificate`, `not_a_child`, or as `enrol`; the refusal is audited.
        """
        caller, gateway = caller or Caller(), name_of(shown)
        try:
            right, _ = self._holder(shown, gateway)
            request = _of_another(policy.check(csr_der), gateway)
        except EnrolmentError as error:
            await self.refused("enrolment_refused", gateway, error, caller)
            raise
        return await self._admitted(request, right, anchor, caller)

    async def refused(self, action: str, name: str, error: EnrolmentError, caller: Caller) -> None:
        """Audit a refusal, if it may have an entry of its own."""
        if caller.audited():
            await self.refuse(Refusal(action, name, str(error), caller.address))

    async def _admitted(
        self, request: policy.Request, right: BySecret | ByCertificate, anchor: Anchor | None, caller: Caller
    ) -> IssuedCertificate:
        issuing = _Issuing(self.authority, request)
        wanted = anchor.value if anchor else ""
        await self.admit(Asked(request.name, request.key_hash, right, issuing, wanted, caller.address, caller.audited))
        assert issuing.issued is not None
        return issuing.issued

    def _holder(self, shown: x509.Certificate | None, device: str, wanted: Anchor | None = None) -> tuple[ByCertificate, Anchor]:
        """The right that a certificate gives, and its anchor, as far as the authority itself knows."""
        if shown is None:
            raise EnrolmentError(CERTIFICATE, "connect with the certificate that is to be renewed")
        anchor = self.authority.anchor_of(shown)
        if anchor is None or anchor is Anchor.SERVICE or not DEVICE_NAME.match(device):
            raise EnrolmentError(CERTIFICATE, "it is not a device's certificate of this authority")
        if not self.authority.is_current(shown):
            raise EnrolmentError(CERTIFICATE, "it has expired, or is not valid yet; enrol anew with a token")
        serial = f"{shown.serial_number:x}"
        if self.authority.is_revoked(anchor, serial):
            raise EnrolmentError(CERTIFICATE, "it is revoked")
        if wanted not in (None, anchor):
            raise EnrolmentError(ANCHOR, f"a certificate of the {anchor.value} anchor is renewed as such")
        return ByCertificate(device, serial), anchor


def _of_another(request: policy.Request, holder: str) -> policy.Request:
    """A request for oneself is a renewal, of the same anchor: another anchor takes a token."""
    if request.name == holder:
        raise EnrolmentError(CERTIFICATE, "who has a certificate renews it with simplereenroll; another anchor takes a token")
    return request


def name_of(certificate: x509.Certificate | None) -> str:
    """The one common name of a certificate; "" for none."""
    if certificate is None:
        return ""
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""
