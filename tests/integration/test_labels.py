"""Labels: printed, looked at as an image, their codes read by an independent reader, and where they lead."""

from __future__ import annotations

import io
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pypdf
import pytest

from iotcore import cli_import
from iotcore.clock import ManualClock, SystemClock
from iotcore.commands import labels
from iotcore.errors import ConfigError, StartError
from iotcore.paper.labels import A4_HEIGHT_MM, A4_WIDTH_MM, LAYOUTS, Label, Layout, draw
from iotcore.registry import groups
from iotcore.registry.rights import Grant, Role
from iotcore.registry.store import open_registry
from iotcore.settings import Settings, Web
from tests.integration.test_registry_places import PLACES
from tests.support.console import console
from tests.support.services import require
from tests.support.shipped import SPECS

URL = "https://iot.thanhhoa.example/console/"
LONG = "Đầu báo khói và nhiệt kết hợp ở hành lang phía đông, cạnh cầu thang thoát hiểm số hai"
MADE = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)
DPI = 300
MM_PER_INCH = 25.4
POINTS_PER_MM = 72.0 / 25.4
HOST = {"Host": "localhost"}


@pytest.fixture
async def settings(tmp_path: Path) -> Settings:
    settings = Settings(data=str(tmp_path), web=Web(public_url=URL))
    async with await open_registry(settings.registry_url, ManualClock()) as registry:
        await registry.import_city(PLACES, SPECS, "tester")
        more = [
            {"id": f"sd-{n}", "title": LONG, "model": "iotcore-smoke-heat", "premises": "truong-1", "serial": f"SN-{n:04d}"}
            for n in range(2, 31)
        ]
        await registry.import_city({"devices": more}, SPECS, "tester")
    return settings


def pages(pdf: bytes, folder: Path) -> list[Path]:
    """The pages as images, as a printer sees them."""
    (folder / "labels.pdf").write_bytes(pdf)
    command = [str(require("pdftoppm")), "-r", str(DPI), "-gray", str(folder / "labels.pdf"), str(folder / "page")]
    subprocess.run(command, check=True)
    return sorted(folder.glob("page-*.pgm"))


def codes(image: Path, layout: Layout) -> list[str]:
    """What an independent reader reads on each label of a page, cut out of it as a telephone's camera would."""
    width, height, pixels = _sized(image)
    cut = []
    for place in range(layout.count):
        left, top = (round(mm / MM_PER_INCH * DPI) for mm in layout.corner(place))
        right, bottom = left + round(layout.width_mm / MM_PER_INCH * DPI), top + round(layout.height_mm / MM_PER_INCH * DPI)
        rows = [pixels[y * width + max(left, 0) : y * width + min(right, width)] for y in range(top, min(bottom, height))]
        if any(min(row) < 128 for row in rows):
            cut.append(image.with_suffix(f".{place:02d}.pgm"))
            cut[-1].write_bytes(b"P5\n%d %d\n255\n" % (len(rows[0]), len(rows)) + b"".join(rows))
    command = [str(require("zbarimg")), "--nodbus", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", *map(str, cut)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()


def _sized(image: Path) -> tuple[int, int, bytes]:
    _, width, height, _, pixels = re.split(rb"\s", image.read_bytes(), maxsplit=4)
    return int(width), int(height), pixels


def texts(pdf: bytes) -> str:
    """All that stands there, however it is broken into lines."""
    return " ".join(" ".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages).split())


async def test_every_code_leads_to_its_device_and_every_label_says_which(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "premises.pdf"
    assert await labels.run(settings, labels.Wanted(path, premises=["truong-1"]), SystemClock()) == 30
    images = pages(path.read_bytes(), tmp_path)
    assert len(images) == 2
    read = [code for image in images for code in codes(image, LAYOUTS["3x8-70x37"])]
    assert sorted(read) == sorted(f"https://iot.thanhhoa.example/console/enrol/sd-{n}" for n in range(1, 31))
    said = texts(path.read_bytes())
    for word in ("sd-30", "iotcore-smoke-heat", "Khói 1", "S/N SN-0001", "Hành lang", "Trường", "Trần, trên cửa"):
        assert word in said
    assert "Đầu báo khói" in said


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_label_of_any_size_is_read_and_stays_within_its_edges(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    made = [Label(f"https://iot.thanhhoa.example/enrol/{'d' * 58}-{n:04d}", "d" * 64, [LONG] * 3) for n in range(2)]
    images = pages(draw(made, layout, MADE, "vi", title="Nhãn", skip=layout.count - 1), tmp_path)
    assert [codes(image, layout) for image in images] == [[label.url] for label in made]
    for page, place in zip(pypdf.PdfReader(tmp_path / "labels.pdf").pages, (layout.count - 1, 0), strict=True):
        spots: list[tuple[float, float]] = []
        page.extract_text(visitor_text=lambda text, _, tm, *__: spots.append((tm[4], tm[5])) if text.strip() else None)  # noqa: B023
        left, top = layout.corner(place)
        assert spots
        assert all(left < x / POINTS_PER_MM < left + layout.width_mm for x, _ in spots)
        assert all(top < A4_HEIGHT_MM - y / POINTS_PER_MM < top + layout.height_mm for _, y in spots)
    left, top = layout.corner(0)
    right, bottom = layout.corner(layout.count - 1)
    assert left >= 0
    assert top >= 0
    assert right + layout.width_mm == pytest.approx(A4_WIDTH_MM - left)
    assert bottom + layout.height_mm == pytest.approx(A4_HEIGHT_MM - top)


def test_used_labels_are_skipped_and_the_same_input_makes_the_same_paper(tmp_path: Path) -> None:
    layout = LAYOUTS["3x8-70x37"]
    made = [Label(f"https://iot.example/enrol/d{n}", f"d{n}") for n in range(3)]
    first = draw(made, layout, MADE, "vi", title="Nhãn", skip=22)
    assert first == draw(made, layout, MADE, "vi", title="Nhãn", skip=22)
    images = pages(first, tmp_path)
    assert [codes(image, layout) for image in images] == [[made[0].url, made[1].url], [made[2].url]]
    spots: list[float] = []
    page = pypdf.PdfReader(io.BytesIO(first)).pages[0]
    page.extract_text(visitor_text=lambda text, _, tm, *__: spots.append(tm[5]) if text.strip() else None)
    assert max(spots) < 37.5 * POINTS_PER_MM  # the last row


async def test_serials_from_a_file_are_printed_before_anything_is_registered(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "serials.txt").write_text("\ufeffSN-0001\r\nNEW-77/A\n\nsd-2\nNEW-77/A\n", encoding="utf-8")
    wanted = labels.Wanted(tmp_path / "out.pdf", serials=tmp_path / "serials.txt")
    assert await labels.run(settings, wanted, SystemClock()) == 3
    (image,) = pages((tmp_path / "out.pdf").read_bytes(), tmp_path)
    assert codes(image, LAYOUTS["3x8-70x37"]) == [f"{URL}enrol/{name}" for name in ("sd-1", "NEW-77%2FA", "sd-2")]
    assert "NEW-77/A" in texts((tmp_path / "out.pdf").read_bytes())


async def test_a_group_is_printed(settings: Settings, tmp_path: Path) -> None:
    document = {"title": "Khói", "query": {"kind": "label", "name": "line", "is": ["2"]}}
    async with await open_registry(settings.registry_url) as registry:
        checked = groups.check("khoi", document, await registry.directory(SPECS), SPECS)
        await groups.GroupStore(registry.database).save("khoi", checked, "tester")
    assert await labels.run(settings, labels.Wanted(tmp_path / "out.pdf", groups=["khoi"]), SystemClock()) == 1
    (image,) = pages((tmp_path / "out.pdf").read_bytes(), tmp_path)
    assert codes(image, LAYOUTS["3x8-70x37"]) == [f"{URL}enrol/sd-1"]
    with pytest.raises(StartError, match="There is no group khoj"):
        await labels.run(settings, labels.Wanted(tmp_path / "none.pdf", groups=["khoj"]), SystemClock())


async def test_what_cannot_be_printed_is_said(settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "out.pdf"
    with pytest.raises(StartError, match=r"web\.public_url is not set"):
        await labels.run(Settings(data=str(tmp_path)), labels.Wanted(out, devices=["sd-1"]), SystemClock())
    with pytest.raises(ConfigError) as refused:
        await labels.run(settings, labels.Wanted(out, devices=["sd-1", "ghost"], premises=["nowhere"]), SystemClock())
    assert {problem.path for problem in refused.value.problems} == {"ghost", "nowhere"}
    with pytest.raises(StartError, match="a sheet has 24 labels"):
        await labels.run(settings, labels.Wanted(out, devices=["sd-1"], skip=24), SystemClock())
    with pytest.raises(StartError, match="nothing to print"):
        await labels.run(settings, labels.Wanted(out), SystemClock())
    (tmp_path / "serials.txt").write_text("ok\n" + "x" * 65 + "\na\x07b\n")
    with pytest.raises(ConfigError) as refused:
        await labels.run(settings, labels.Wanted(out, serials=tmp_path / "serials.txt"), SystemClock())
    assert [problem.path for problem in refused.value.problems] == ["line 2", "line 3"]
    assert not out.exists()


def test_the_command_offers_the_sheets_that_there_are() -> None:
    assert tuple(LAYOUTS) == cli_import.LAYOUTS


async def test_a_code_leads_to_the_device_of_the_id_or_serial_or_says_how_to_register(tmp_path: Path) -> None:
    async with console(tmp_path) as made, made.app.test_app():
        await made.registry.import_city({"devices": [{"id": "d1", "serial": "SN-1"}, {"id": "d2", "serial": "SN-2"}]}, SPECS, "t")
        client = await made.client()
        for name, device in (("d1", "d1"), ("SN-1", "d1"), ("SN-2", "d2")):
            response = await client.get(f"/enrol/{name}", headers=HOST)
            assert (response.status_code, response.headers["Location"]) == (303, f"/devices/{device}")
        client.set_cookie("localhost", "language", "en")
        unknown = await client.get("/enrol/NEW-77%20A", headers=HOST)
        text = await unknown.get_data(as_text=True)
        assert unknown.status_code == 404
        assert "No device is registered with the id or serial number NEW-77 A." in text
        assert "iotcore import" in text
        for hostile in ("<script>", "x" * 500, "..%2f..%2fetc", "a%00b"):
            answer = await client.get(f"/enrol/{hostile}", headers=HOST)
            assert answer.status_code == 404
            assert "<script>" not in await answer.get_data(as_text=True)
        stranger = await made.app.test_client().get("/enrol/SN-1", headers={**HOST, "Accept": "text/html"})
        assert (stranger.status_code, stranger.headers["Location"]) == (303, "/sign-in?to=/enrol/SN-1")


async def test_a_serial_of_two_models_lets_a_person_choose_among_what_they_may_see(tmp_path: Path) -> None:
    areas = [{"id": "a", "kind": "ward", "name": "A"}, {"id": "b", "kind": "ward", "name": "B"}]
    async with console(tmp_path, areas=areas, area_of={"p1": "a", "p2": "b"}) as made, made.app.test_app():
        twins = [{"id": "d1", "serial": "7"}, {"id": "air-1", "serial": "7"}]
        await made.registry.import_city({"devices": twins}, SPECS, "t")
        response = await (await made.client()).get("/enrol/7", headers=HOST)
        text = await response.get_data(as_text=True)
        assert response.status_code == 300
        assert 'href="/devices/d1"' in text
        assert 'href="/devices/air-1"' in text
        technician = await made.client("binh", Grant(Role.TECHNICIAN, "a"))
        assert (await technician.get("/enrol/d1", headers=HOST)).status_code == 303
        assert (await technician.get("/enrol/d2", headers=HOST)).status_code == 404
