"""What is known of buildings and devices: details, notes, files, configurations; on SQLite and PostgreSQL."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from iotcore.clock import ManualClock
from iotcore.errors import ConfigError, Refused
from iotcore.registry import attachments, configurations
from iotcore.registry.accounts import accounts
from iotcore.registry.attachments import Content
from iotcore.registry.places import Places
from iotcore.registry.rights import Grant, Role
from iotcore.registry.store import Registry, open_registry
from iotcore.registry.subjects import Subject
from tests.integration.test_registry_places import PLACES
from tests.support.shipped import SPECS

DEVICE, PREMISES = Subject("device", "sd-1"), Subject("premises", "truong-1")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(32)
PDF = b"%PDF-1.7\n" + bytes(32)
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def registry(registry_url: str, clock: ManualClock) -> AsyncIterator[Registry]:
    async with await open_registry(registry_url, clock) as opened:
        await opened.import_city(copy.deepcopy(PLACES), SPECS, "tester")
        yield opened
        assert await opened.verify_audit() == []


@pytest.fixture
def places(registry: Registry) -> Places:
    return Places(registry.database)


async def last(registry: Registry) -> tuple[str, str, str]:
    deed = (await registry.audit_entries())[-1].deed
    return deed.by, deed.action, deed.subject


def filed(content: bytes, kind: Any = "photo", title: str = "Cửa phòng 101") -> Content:
    media = attachments.media_type(content, kind)
    return Content(kind, title, media, len(content), hashlib.sha256(content).hexdigest())


async def test_a_detail_is_checked_audited_and_told_like_an_import(registry: Registry, places: Places) -> None:
    cursor = await registry.last_change()
    assert await places.change("premises", "truong-1", {"risk_class": "very_high"}, specs=SPECS, by="minh")
    assert await last(registry) == ("minh", "premises.change", "truong-1")
    assert [(one.kind, one.key) for one in await registry.changes_after(cursor)] == [("premises", "truong-1")]
    assert not await places.change("premises", "truong-1", {"risk_class": "very_high"}, specs=SPECS, by="minh")
    entry = (await places.known(PREMISES)).entry
    assert (entry["risk_class"], entry["area"], entry["hydrants"]) == (
        "very_high",
        "phuong-1",
        "Trụ 12, trước cổng; mùa khô áp lực thấp",
    )
    with pytest.raises(ConfigError, match="risk_class"):
        await places.change("premises", "truong-1", {"risk_class": "enormous"}, specs=SPECS, by="minh")
    with pytest.raises(ConfigError, match="a ward lies in a city or a province"):
        await places.change("areas", "phuong-1", {"parent": "phuong-1"}, specs=SPECS, by="minh")
    with pytest.raises(ConfigError, match="a city lies in a province"):
        await places.change("areas", "tp-1", {"parent": "phuong-1"}, specs=SPECS, by="minh")
    with pytest.raises(Refused, match="unknown_contact"):
        await places.change("contacts", "nobody", {"phone": "115"}, specs=SPECS, by="minh")
    assert await places.change("contacts", "truong-1-bv", {"phone": "+84 91 234 5678"}, specs=SPECS, by="minh")


async def test_of_labels_only_those_named_change(places: Places) -> None:
    await places.change("devices", "sd-1", {"labels": {"room": "", "floor": "1"}}, specs=SPECS, by="minh")
    assert (await places.known(DEVICE)).entry["labels"] == {"line": "2", "floor": "1"}
    with pytest.raises(ConfigError, match="labels"):
        await places.change("devices", "sd-1", {"labels": {"Room": "1"}}, specs=SPECS, by="minh")


async def test_a_serial_can_be_filled_in_but_only_replacing_changes_it(registry: Registry, places: Places) -> None:
    await registry.import_city({"devices": [{**PLACES["devices"][0], "id": "sd-2", "serial": ""}]}, SPECS, "tester")
    assert await places.change("devices", "sd-2", {"serial": "SN-0002"}, specs=SPECS, by="minh")
    with pytest.raises(Refused, match=r"has_unit.*iotcore device replace sd-2"):
        await places.change("devices", "sd-2", {"serial": "SN-0003"}, specs=SPECS, by="minh")
    await registry.import_city({"devices": [{**PLACES["devices"][0], "id": "sd-3", "serial": ""}]}, SPECS, "tester")
    with pytest.raises(ConfigError, match="same serial as 'sd-1'"):
        await places.change("devices", "sd-3", {"serial": "SN-0001"}, specs=SPECS, by="minh")


async def test_notes_are_kept_newest_first(registry: Registry, places: Places, clock: ManualClock) -> None:
    await places.note(DEVICE, "  Trần ẩm  ", "minh")
    clock.advance(60.0)
    await places.note(DEVICE, "Đã lau", "lan")
    await places.note(PREMISES, "Cổng sau khoá", "minh")
    notes = (await places.known(DEVICE)).notes
    assert [(note.text, note.by) for note in notes] == [("Đã lau", "lan"), ("Trần ẩm", "minh")]
    assert notes[0].at_ms - notes[1].at_ms == 60_000
    assert await last(registry) == ("minh", "note.add", "truong-1")
    for subject, text, reason in (
        (DEVICE, "  ", "empty"),
        (DEVICE, "x" * 4001, "too_long"),
        (Subject("device", "sd-9"), "x", "unknown_device"),
        (Subject("premises", "sd-1"), "x", "unknown_premises"),
    ):
        with pytest.raises(Refused, match=reason):
            await places.note(subject, text, "minh")


async def test_a_file_is_what_its_content_says(registry: Registry, places: Places) -> None:
    photo = await places.attach(DEVICE, filed(PNG), "minh")
    plan = await places.attach(PREMISES, filed(PDF, "floor_plan", "Tầng 1"), "minh")
    assert await last(registry) == ("minh", "attachment.floor_plan", "truong-1")
    assert [(one.id, one.media_type, one.title) for one in await places.files(DEVICE)] == [(photo, "image/png", "Cửa phòng 101")]
    assert {one.id for one in await places.files()} == {photo, plan}
    assert await places.contents() == {hashlib.sha256(content).hexdigest() for content in (PNG, PDF)}
    await places.detach(photo, "minh")
    assert await places.files(DEVICE) == []
    for refused in (places.detach(photo, "minh"), places.file(photo)):
        with pytest.raises(Refused, match="unknown_file"):
            await refused
    with pytest.raises(Refused, match="unknown_device"):
        await places.attach(Subject("device", "sd-9"), filed(PNG), "minh")
    with pytest.raises(Refused, match="unknown_premises"):
        await places.files(Subject("premises", "nowhere"))


@pytest.mark.parametrize(
    ("content", "kind", "reason"),
    [
        (SVG, "floor_plan", "has_scripts"),
        (b"<SVG onload=x>", "photo", "has_scripts"),
        (b"MZ\x90\x00", "photo", "media_type"),
        (b"<html><script>", "floor_plan", "media_type"),
        (PDF, "photo", "media_type"),
        (PNG, "record", "media_type"),
        (b"", "photo", "empty"),
        (PNG + bytes(attachments.MAX_FILE_BYTES), "photo", "too_large"),
        (PNG, "film", "unknown_kind"),
    ],
)
def test_what_a_file_may_not_be(content: bytes, kind: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        attachments.media_type(content, kind)
    assert refused.value.reason == reason


async def test_a_signed_record_stays(places: Places) -> None:
    record = await places.attach(DEVICE, filed(PDF, "record", "Biên bản"), "minh")
    with pytest.raises(Refused, match="kept"):
        await places.detach(record, "minh")


async def test_a_configuration_has_versions_on_both_sides(registry: Registry, places: Places) -> None:
    async def standing() -> str:
        return (await places.known(DEVICE)).config.standing

    assert await standing() == "none"
    assert await places.desire("sd-1", {"interval_s": 10}, "minh") == 1
    assert await standing() == "unreported"
    assert await places.desire("sd-1", {"interval_s": 5}, "minh") == 2
    assert await places.desire("sd-1", {"interval_s": 5}, "lan") == 2  # wanted already
    assert await places.report("sd-1", 1, {"interval_s": 10}, "sd-1")
    assert await standing() == "behind"
    assert await places.report("sd-1", 2, {"interval_s": 6}, "sd-1")
    assert await standing() == "differs"
    assert await places.report("sd-1", 2, {"interval_s": 5}, "sd-1")
    assert not await places.report("sd-1", 2, {"interval_s": 5}, "sd-1")
    assert await standing() == "applied"
    assert [(one.version, one.body) for one in await places.configured("sd-1", "desired")] == [
        (2, {"interval_s": 5}),
        (1, {"interval_s": 10}),
    ]
    assert [one.version for one in await places.configured("sd-1", "reported")] == [2, 1]
    assert await places.report("sd-1", 1, {"interval_s": 10}, "sd-1")  # set back: what it said last is what it has
    assert await standing() == "behind"
    assert [one.version for one in await places.configured("sd-1", "reported")] == [1, 2]
    assert await places.desire("sd-1", {"interval_s": 10}, "minh") == 3  # back again is a version of its own
    assert await last(registry) == ("minh", "config.desire", "sd-1")


@pytest.mark.parametrize(
    ("device", "body", "reason"),
    [
        ("sd-9", {}, "unknown_device"),
        ("sd-1", [1], "no_object"),
        ("sd-1", {"x": float("nan")}, "no_object"),
        ("sd-1", {"x": "y" * configurations.MAX_CONFIG_BYTES}, "too_large"),
    ],
)
async def test_a_configuration_is_a_small_json_object_of_a_device(places: Places, device: str, body: Any, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        await places.desire(device, body, "minh")


async def test_a_version_that_nobody_wanted_is_not_reported(places: Places) -> None:
    await places.desire("sd-1", {}, "minh")
    with pytest.raises(Refused, match="unknown_version"):
        await places.report("sd-1", 2, {}, "sd-1")


async def test_only_what_nothing_refers_to_is_removed(registry: Registry, places: Places) -> None:
    for kind, one, user in (
        ("area", "tinh-1", "area 'tp-1'"),
        ("area", "phuong-1", "premises 'truong-1'"),
        ("premises", "truong-1", "zone 'truong-1-z1'"),
        ("zone", "truong-1-z1", "device 'sd-1'"),
    ):
        with pytest.raises(Refused, match=f"in_use.*{user}"):
            await places.remove(kind, one, "minh")  # type: ignore[arg-type]
    await registry.import_city({"areas": [{"id": "phuong-9", "kind": "ward", "name": "Phường 9"}]}, SPECS, "tester")
    await accounts(registry.database, 60.0, 60.0).people.add("binh", [Grant(Role.VIEWER, "phuong-9")], "tester")
    with pytest.raises(Refused, match=r"in_use.*a role of user 'binh'"):
        await places.remove("area", "phuong-9", "minh")
    await places.retire("sd-1", "nhà bị dỡ", SPECS, "minh", anyway=True)
    await places.note(PREMISES, "dỡ bỏ", "minh")
    for kind, one in (("zone", "truong-1-z1"), ("contact", "truong-1-bv"), ("premises", "truong-1"), ("area", "phuong-1")):
        await places.remove(kind, one, "minh")  # type: ignore[arg-type]
        assert await last(registry) == ("minh", f"{kind}.remove", one)
        with pytest.raises(Refused, match=f"unknown_{kind}"):
            await places.remove(kind, one, "minh")  # type: ignore[arg-type]
    directory = await registry.directory(SPECS)
    assert (directory.premises, directory.zones) == ({}, {})
