"""Judges of signed papers that are not ours: pyHanko's validator, OpenSSL's CMS, and poppler's pdfsig."""

from __future__ import annotations

import io
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyhanko.keys import load_certs_from_pemder_data
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import async_validate_pdf_signature
from pyhanko_certvalidator import ValidationContext

from tests.support.services import require


@dataclass(frozen=True, slots=True)
class Judged:
    """What the validator says of the only signature of a paper."""

    intact: bool
    trusted: bool
    covers_all: bool
    signer: str


async def judged(pdf: bytes, root_pem: bytes) -> Judged:
    """pyHanko's verdict against our root alone; the signer must be allowed to sign documents, and for good."""
    trust = ValidationContext(trust_roots=list(load_certs_from_pemder_data(root_pem)), allow_fetching=False)
    (signature,) = PdfFileReader(io.BytesIO(pdf)).embedded_signatures
    status: Any = await async_validate_pdf_signature(signature, trust)
    certificate = signature.signer_cert
    assert certificate.extended_key_usage_value.native == ["1.3.6.1.5.5.7.3.36"]
    name = str(certificate.subject.native["common_name"])
    return Judged(status.intact and status.valid, status.trusted, status.coverage.name == "ENTIRE_FILE", name)


def openssl_accepts(pdf: bytes, root_pem: bytes, folder: Path) -> bool:
    """OpenSSL's verdict: the CMS in the paper, over the bytes that it names, with a chain to our root."""
    (signature,) = PdfFileReader(io.BytesIO(pdf)).embedded_signatures
    first, length, second, rest = [int(number) for number in signature.byte_range]
    files = {
        "cms.der": bytes(signature.pkcs7_content),
        "signed.bin": pdf[first : first + length] + pdf[second : second + rest],
        "root.pem": root_pem,
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    done = subprocess.run(
        [require("openssl"), "cms", "-verify", "-binary", "-inform", "DER", "-in", "cms.der", "-content", "signed.bin", "-CAfile",
         "root.pem", "-purpose", "any", "-out", "out.bin"],
        cwd=folder, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    return done.returncode == 0


def poppler_says(pdf: bytes, folder: Path) -> str:
    """What `pdfsig` says of it. It knows no root of ours: only of the signature itself."""
    (folder / "judged.pdf").write_bytes(pdf)
    done = subprocess.run(
        [require("pdfsig"), "-nocert", "judged.pdf"], cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout + done.stderr
