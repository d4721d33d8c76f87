"""Papers signed so that anybody can check them: PAdES baseline B-B (ETSI EN 319 142-1), certified by the service anchor."""

from __future__ import annotations

import io
from dataclasses import dataclass

from pyhanko import keys
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import signers
from pyhanko.sign.fields import SigSeedSubFilter
from pyhanko_certvalidator.registry import SimpleCertificateStore

from iotcore.errors import StartError

FIELD = "Signature"


@dataclass(frozen=True, slots=True)
class Seal:
    """Who signs: certificate (with the authorities that lead to its root) and key, PEM."""

    certificate_pem: bytes
    key_pem: bytes


async def sign(pdf: bytes, seal: Seal, reason: str, place: str) -> bytes:
    """The same paper with a signature over every byte of it.

    Raises:
        StartError: the certificate or its key cannot be read.
    """
    writer = IncrementalPdfFileWriter(io.BytesIO(pdf))
    meta = signers.PdfSignatureMetadata(
        field_name=FIELD, md_algorithm="sha256", subfilter=SigSeedSubFilter.PADES, reason=reason, location=place
    )
    told = await signers.async_sign_pdf(writer, meta, signer=_signer(seal), output=io.BytesIO())
    return bytes(told.getvalue())


def _signer(seal: Seal) -> signers.SimpleSigner:
    try:
        chain = list(keys.load_certs_from_pemder_data(seal.certificate_pem))
        key = keys.load_private_key_from_pemder_data(seal.key_pem, passphrase=None)
    except (ValueError, TypeError) as error:
        raise StartError(
            f"The certificate that signs papers cannot be read: {error}", "Remove it: a new one is made at the start."
        ) from error
    known = SimpleCertificateStore()  # type: ignore[no-untyped-call]  # pyhanko_certvalidator is typed but here
    known.register_multiple(chain[1:])
    return signers.SimpleSigner(signing_cert=chain[0], signing_key=key, cert_registry=known, embed_roots=False)
