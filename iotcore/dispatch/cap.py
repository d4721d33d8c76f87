"""The channel to whoever takes CAP 1.2: signed XML by HTTP POST; any status 200-299 acknowledges it.

The signature is an enveloped xmldsig by a certificate of this installation, the last element of the message. A key that cannot be
read keeps no fire from going out: the message goes unsigned then, and the log says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, SignatureMethod
from signxml.signer import XMLSigner

from iotcore.clock import Clock
from iotcore.dispatch import cap_message
from iotcore.dispatch.egress import Egress
from iotcore.dispatch.post import HttpLink, refusal
from iotcore.journal.records import Notice, OutboxRow
from iotcore.settings_channels import CapReceiver

MEDIA_TYPE = "application/cap+xml"
log = logging.getLogger(__name__)


class CapChannel:
    """Posts notices to one receiver; implements `iotcore.dispatch.outbox.Channel`. The files hold certificate and key, PEM."""

    def __init__(self, receiver: CapReceiver, clock: Clock, certificate: Path, key: Path) -> None:
        self._receiver = receiver
        self._files = certificate, key
        self._link = HttpLink(clock, receiver.reply_timeout_s, Egress.of(receiver))

    async def send(self, row: OutboxRow, sent: Callable[[float], None]) -> str:
        """Post a notice, unless it is not for this channel: exercises and tests never reach an Actual one, nor fires an Exercise.

        Raises:
            DeliveryError: anything but a status 200-299.
        """
        if not self.takes(row.notice):
            return f"not sent: {row.notice.purpose} is not for status {self._receiver.status}"
        body = await asyncio.to_thread(self.body, row.notice, row.part)
        headers = {"Content-Type": MEDIA_TYPE, "Idempotency-Key": cap_message.identifier(row.notice, row.notice.event, row.part)}
        status, text = await self._link.ask("POST", self._receiver.url, body, lambda: headers, sent)
        if (refused := refusal(status, text)) is not None:
            raise refused
        return f"accepted, http {status}"

    def takes(self, notice: Notice) -> bool:
        """Whether a notice may go out under this channel's status; a Test channel is a trial and takes everything, as tests."""
        wanted = {"Actual": {"fire"}, "Exercise": {"exercise"}, "Test": {"fire", "exercise", "test"}}
        return notice.purpose in wanted[self._receiver.status]

    def body(self, notice: Notice, part: int = 0) -> bytes:
        """The message as it goes out."""
        root = cap_message.message(notice, self._receiver, part)
        if self._receiver.sign:
            try:
                root = signed(root, *(file.read_bytes() for file in self._files))
            except (OSError, ValueError) as error:
                log.critical("%s: %s goes out unsigned: %s", self._receiver.name, notice.incident, error)
        return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8"))

    async def close(self) -> None:
        """Close the connections."""
        await self._link.close()


def signed(root: Any, certificate: bytes, key: bytes) -> Any:
    """The message with an enveloped signature; ValueError for a certificate or key that is none."""
    private = serialization.load_pem_private_key(key, None)
    method = SignatureMethod.ECDSA_SHA256 if isinstance(private, EllipticCurvePrivateKey) else SignatureMethod.RSA_SHA256
    signer = XMLSigner(signature_algorithm=method, c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0)
    return signer.sign(root, key=key, cert=[x509.load_pem_x509_certificate(certificate)])
