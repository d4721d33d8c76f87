"""`iotcore area|premises|file` and the verbs of `iotcore device` that know of places, as a person types them."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import pwd
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from iotcore import cli
from iotcore.registry.store import open_registry
from tests.integration.test_registry_places import PLACES
from tests.support.shipped import SPECS

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
PDF = b"%PDF-1.7\n" + bytes(64)
BY = f"login {pwd.getpwuid(os.getuid()).pw_name}"
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """What a command says; it ends with `code`, and with an error that holds `error`."""
    config = tmp_path / "iotcore.toml"
    config.write_text(f'data = "{tmp_path / "data"}"\n', encoding="utf-8")
    (tmp_path / "data").mkdir()

    async def filled() -> None:
        async with await open_registry(f"sqlite://{tmp_path / 'data' / 'registry.db'}") as registry:
            await registry.import_city(copy.deepcopy(PLACES), SPECS, "tester")

    asyncio.run(filled())

    def command(*words: object, code: int = 0, error: str = "") -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main([*map(str, words), "--config", str(config)])
        if error:
            assert error in str(ended.value.code)
        else:
            assert ended.value.code == code
        return capsys.readouterr().out

    return command


def test_areas(run: Run) -> None:
    assert run("area", "add", "phuong-2", "--kind", "ward", "--name", "Phường 2", "--parent", "tp-1") == "phuong-2: added\n"
    assert run("area", "add", "phuong-2", "--kind", "ward", "--name", "Phường Hai", "--parent", "tp-1") == "phuong-2: changed\n"
    assert "id=phuong-2  kind=ward  name=Phường Hai  parent=tp-1" in run("area", "list")
    run("area", "add", "x", "--kind", "city", "--name", "X", "--parent", "phuong-2", error="a city lies in a province")
    run("area", "remove", "tp-1", error="in_use: area 'tp-1' is that of area 'phuong-1'")
    assert run("area", "remove", "phuong-2") == "area phuong-2 is removed\n"


def test_a_building(run: Run) -> None:
    assert run("premises", "change", "truong-1", "--risk-class", "very_high", "--no-key-site") == "truong-1: changed\n"
    assert run("premises", "change", "truong-1", "--risk-class", "very_high") == "truong-1: as it was\n"
    assert run("premises", "contact", "truong-1", "ht", "--name", "Hiệu trưởng", "--phone", "0237 111", "--key-holder") == (
        "ht: added\n"
    )
    run("premises", "contact", "nowhere", "ht2", "--name", "x", error="no premises 'nowhere'")
    run("premises", "note", "truong-1", "Cổng sau khoá")
    shown = run("premises", "show", "truong-1")
    for said in ("risk_class     very_high", "hydrants       Trụ 12", "key holder     Hiệu trưởng", f"{BY}: Cổng sau khoá"):
        assert said in shown, shown
    assert "key_site" not in shown
    document = json.loads(run("premises", "show", "truong-1", "-o", "json"))
    assert [one["id"] for one in document["contacts"]] == ["ht", "truong-1-bv"]
    assert document["notes"][0]["text"] == "Cổng sau khoá"
    assert run("premises", "remove-contact", "ht") == "contact ht is removed\n"
    run("premises", "remove", "truong-1", error="in_use")


def test_files(run: Run, tmp_path: Path) -> None:
    plan, photo, drawing = tmp_path / "tang-1.pdf", tmp_path / "cua.jpg", tmp_path / "plan.svg"
    plan.write_bytes(PDF)
    photo.write_bytes(PNG)
    drawing.write_bytes(b"<svg><script/></svg>")
    name = run("file", "add", plan, "--premises", "truong-1", "--kind", "floor_plan").strip()
    other = run("file", "add", photo, "--device", "sd-1", "--kind", "photo", "--title", "Cửa").strip()
    run("file", "add", drawing, "--premises", "truong-1", "--kind", "floor_plan", error="has_scripts")
    run("file", "add", tmp_path / "none", "--device", "sd-1", "--kind", "photo", error="cannot be read")
    run("file", "add", photo, "--device", "sd-9", "--kind", "photo", error="unknown_device")
    rows = json.loads(run("file", "list", "-o", "json"))
    assert {(row["file"], row["kind"], row["title"], row["type"]) for row in rows} == {
        (name, "floor_plan", "tang-1", "application/pdf"),
        (other, "photo", "Cửa", "image/png"),
    }
    assert other not in run("file", "list", "--premises", "truong-1")
    saved = tmp_path / "saved.pdf"
    run("file", "save", name, "-o", saved)
    assert saved.read_bytes() == PDF
    run("file", "save", name, "-o", saved, error="is there already")
    assert f"floor_plan     {name}  tang-1" in run("premises", "show", "truong-1")

    files = tmp_path / "data" / "files"
    assert len(list(files.iterdir())) == 2
    run("file", "remove", other)
    assert run("file", "sweep") == "0 deleted\n"  # too young to be given up
    for path in files.iterdir():
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    assert run("file", "sweep") == "1 deleted\n"
    (kept,) = files.iterdir()
    kept.write_bytes(PDF + b"x")
    assert f"missing or damaged: {kept.name}" in run("file", "sweep", code=1)
    run("file", "save", name, "-o", tmp_path / "again.pdf", error="is not what it was")


def test_a_device(run: Run, tmp_path: Path) -> None:
    assert run("device", "change", "sd-1", "--label", "room=", "--label", "floor=1", "--location", "Trần") == "sd-1: changed\n"
    run("device", "change", "sd-1", "--serial", "SN-0002", error="has_unit")
    run("device", "change", "sd-1", "--latitude", "95", error="latitude")
    run("device", "note", "sd-1", "Trần ẩm")
    wanted = tmp_path / "wanted.json"
    wanted.write_text('{"interval_s": 5}', encoding="utf-8")
    assert run("device", "config", "sd-1") == "wanted    nothing\nreported  nothing\nstanding  none\n"
    assert run("device", "config", "sd-1", "--set", wanted).splitlines()[0] == 'wanted    version 1: {"interval_s": 5}'
    wanted.write_text("{", encoding="utf-8")
    run("device", "config", "sd-1", "--set", wanted, error="is not JSON")
    assert json.loads(run("device", "config", "sd-1", "-o", "json"))["standing"] == "unreported"
    shown = run("device", "show", "sd-1")
    for said in (
        "state          registered",
        "location       Trần",
        "serial         SN-0001",
        "label          floor = 1",
        "config         version 1 wanted since",
        f"{BY}: Trần ẩm",
    ):
        assert said in shown, shown
    assert "room" not in shown


def test_a_unit_is_replaced_and_its_place_given_up(run: Run) -> None:
    token = run("device", "replace", "sd-1", "--serial", "SN-0002", "--why", "vỏ vỡ").strip()
    assert len(token) >= 22
    run("device", "replace", "sd-1", "--serial", "SN-0002", "--why", "x", error="same_unit")
    shown = run("device", "show", "sd-1")
    assert "unit           SN-0002 of iotcore-smoke-heat since" in shown
    assert ": vỏ vỡ" in shown
    plan = run("device", "retire", "sd-1", "--plan").splitlines()
    assert plan[0].startswith("sd-1 is registered; it stands at: Trường (truong-1)")
    assert "asks for --anyway: no working fire device would be left in zone truong-1-z1" in plan
    assert "tokens that nobody has used end: 1" in plan
    run("device", "retire", "sd-1", "--why", "tháo dỡ", error="last_detector")
    run("device", "retire", "sd-1", "--anyway", error="no_reason")
    assert run("device", "retire", "sd-1", "--why", "tháo dỡ", "--anyway") == "sd-1 is retired\n"
    assert run("device", "retire", "sd-1", "--why", "tháo dỡ", "--anyway") == "sd-1 is retired already\n"
    assert run("device", "retire", "sd-1", "--plan") == "sd-1 is retired already\n"
    assert json.loads(run("device", "show", "sd-1", "-o", "json"))["registered"]["entry"]["zone"] == ""
    assert run("premises", "remove-zone", "truong-1-z1") == "zone truong-1-z1 is removed\n"
