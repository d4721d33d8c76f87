"""Enrolment: a token and a request come in, a certificate goes out; authorise, then sign.

check the request → find the anchor → use up the token → sign → store

Nothing is spent before the request is known to be good: a device with a bug in its request keeps its token. The registry is not
known here; what is asked of it comes as callables.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from iotcore.errors import EnrolmentError
from iotcore.provision import policy
from iotcore.provision.ca import Anchor, Authority, IssuedCertificate

TOKEN = "token"  # noqa: S105 - the name of a reason
ANCHOR = "anchor"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The one road to a device certificate.

    `anchors_of(device)`: the anchors it may have a certificate of, its usual one first (a gateway with fire children: field,
    fire); none for a device that is unknown or may not enrol. `use_token(token, device)`: true for exactly one caller.
    `record(certificate)`: keeps it before the device gets it. `audit(action, device, detail)`: notes a refusal.
    """

    authority: Authority
    anchors_of: Callable[[str], Awaitable[Sequence[Anchor]]]
    use_token: Callable[[str, str], Awaitable[bool]]
    record: Callable[[IssuedCertificate], Awaitable[None]]
    audit: Callable[[str, str, str], Awaitable[None]]

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

    async def _authorise(self, device: str, token: str, anchor: Anchor | None) -> Anchor:
        anchors = await self.anchors_of(device)
        if anchors and anchor is not None and anchor not in anchors:
            raise EnrolmentError(ANCHOR, f"{device} gets no certificate of the {anchor.value} anchor")
        if not anchors or not await self.use_token(token, device):
            raise EnrolmentError(TOKEN, "unknown, used, expired, or bound to another device; ask for a new one")
        return anchor or anchors[0]
