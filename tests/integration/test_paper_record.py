"""The acceptance record on paper: readable in both languages, signed, and worthless after one byte."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pypdf import PdfReader

from iotcore.clock import SystemClock
from iotcore.errors import Refused, StartError
from iotcore.paper import photo, record, signed
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.services import ensure_service
from tests.support.papers import judged, openssl_accepts, poppler_says
from tests.support.pki import PASSPHRASE

PAPERS = "svc.web.1.papers"
MADE = datetime(2026, 11, 26, 3, 0, tzinfo=UTC)


def picture(width: int = 1200, height: int = 900, kind: str = "JPEG", **more: Any) -> bytes:
    told = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(told, kind, **more)
    return told.getvalue()


def made(photos: int = 2, steps: int = 3) -> record.Record:
    done = record.Checked("done", "Báo động thử đã nhận", "Test alarm received", "12,5 ms")
    place = record.Line("Địa chỉ", "Address", "12 Lê Lợi, phường Hạc Thành, Thanh Hóa")
    sections = [
        record.Section("Nơi lắp đặt", "Place", lines=[place]),
        record.Section("Kiểm tra", "Checks", steps=[done] * steps),
        record.Section("Ảnh", "Photos", photos=[photo.cleaned(picture(width=900 + i)).content for i in range(photos)]),
    ]
    return record.Record("Biên bản nghiệm thu", "Acceptance record", MADE, sections, "Kiểm chứng – verify: service-root.pem")


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority.ensure(tmp_path / "ca", PASSPHRASE, SystemClock())


@pytest.fixture
def seal(ours: Authority, tmp_path: Path) -> signed.Seal:
    files = ensure_service(ours, tmp_path / "certs", PAPERS, (), SystemClock(), signs_documents=True)
    return signed.Seal(*(file.read_bytes() for file in files))


async def test_everybody_who_has_the_root_can_check_it(ours: Authority, seal: signed.Seal, tmp_path: Path) -> None:
    pdf = await signed.sign(record.draw(made()), seal, "Nghiệm thu – acceptance", "Thanh Hóa")
    verdict = await judged(pdf, ours.root_pem(Anchor.SERVICE))
    assert (verdict.intact, verdict.trusted, verdict.covers_all, verdict.signer) == (True, True, True, PAPERS)
    assert openssl_accepts(pdf, ours.root_pem(Anchor.SERVICE), tmp_path)
    assert not (await judged(pdf, ours.root_pem(Anchor.FIRE))).trusted
    assert not openssl_accepts(pdf, ours.root_pem(Anchor.FIRE), tmp_path)
    said = poppler_says(pdf, tmp_path)
    assert "Signature is Valid." in said
    assert "ETSI.CAdES.detached" in said
    assert "Total document signed" in said


async def test_one_flipped_byte_and_it_is_worthless(ours: Authority, seal: signed.Seal, tmp_path: Path) -> None:
    pdf = await signed.sign(record.draw(made(photos=0)), seal, "r", "p")
    for place in (20, len(pdf) // 3, len(pdf) - 10):
        forged = bytearray(pdf)
        forged[place] ^= 1
        assert not openssl_accepts_or_reads(bytes(forged), ours, tmp_path), f"byte {place}"
    forged = bytearray(pdf)
    forged[pdf.index(b"/Producer") + 12] ^= 1
    assert not (await judged(bytes(forged), ours.root_pem(Anchor.SERVICE))).intact
    assert "Digest Mismatch" in poppler_says(bytes(forged), tmp_path)


def openssl_accepts_or_reads(pdf: bytes, ours: Authority, folder: Path) -> bool:
    """Whether OpenSSL takes it; a paper that cannot even be read is not taken."""
    try:
        return openssl_accepts(pdf, ours.root_pem(Anchor.SERVICE), folder)
    except Exception:  # noqa: BLE001 - whatever a broken PDF makes the reader say
        return False


def test_both_languages_and_every_photo_are_on_it_and_a_long_one_has_several_pages() -> None:
    pages = PdfReader(io.BytesIO(record.draw(made(photos=4, steps=80)))).pages
    assert len(pages) > 2
    text = "\n".join(page.extract_text() for page in pages)
    for wanted in (
        "Biên bản nghiệm thu",
        "Acceptance record",
        "phường Hạc Thành, Thanh Hóa",
        "Báo động thử đã nhận – Test alarm received",
    ):
        assert wanted in text, wanted
    assert all("service-root.pem" in page.extract_text() for page in pages)
    assert sum(len(page.images) for page in pages) == 4


async def test_a_certificate_that_cannot_be_read_is_said(seal: signed.Seal) -> None:
    with pytest.raises(StartError, match="signs papers"):
        await signed.sign(record.draw(made(photos=0)), signed.Seal(b"nothing", seal.key_pem), "r", "p")


def test_a_photo_loses_its_place_and_stands_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90° (EXIF 2.3, 4.6.4 A)
    exif[0x010F] = "somebody's phone"
    exif.get_ifd(0x8825)[1] = "N"
    kept = photo.cleaned(picture(2000, 1000, exif=exif))
    assert (kept.width, kept.height) == (800, 1600)
    assert b"phone" not in kept.content
    with Image.open(io.BytesIO(kept.content)) as again:
        assert again.format == "JPEG"
        assert not dict(again.getexif())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no_photo"),
        (b"<svg onload='x'>", "no_photo"),
        (picture()[:2000], "no_photo"),
        (picture(kind="GIF"), "no_photo"),
        (picture(kind="PNG")[:-40], "no_photo"),
        (b"\xff\xd8" + bytes(photo.LARGEST_BYTES), "too_large"),
        (picture(9000, 6000, "PNG"), "too_large"),
    ],
    ids=["empty", "svg", "cut", "gif", "cut png", "bytes", "pixels"],
)
def test_what_is_no_photo_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        photo.cleaned(content)


def test_a_png_is_a_photo_too() -> None:
    assert photo.cleaned(picture(kind="PNG")).width == 1200
