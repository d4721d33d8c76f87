"""A device is a place: its unit is replaced, or the place is given up; on SQLite and PostgreSQL."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator

import pytest

from iotcore.app.common import anchors_of
from iotcore.clock import ManualClock
from iotcore.errors import ConfigError, EnrolmentError, Refused
from iotcore.registry import asked as words
from iotcore.registry.admissions import Admissions
from iotcore.registry.claims import UnitEntry
from iotcore.registry.enrolments import Enrolments
from iotcore.registry.places import Places
from iotcore.registry.records import Certificate, State
from iotcore.registry.store import Registry, open_registry
from iotcore.registry.subjects import Subject
from iotcore.registry.tokens import hash_of
from iotcore.registry.units import Another
from tests.integration.test_registry_places import PLACES
from tests.support.enrolling import asking, book, device, said
from tests.support.registered import SPECS as MADE_UP
from tests.support.shipped import SPECS

DAY_S = 86_400.0
LONG_MS = 4_000_000_000_000
STEPS: dict[str, tuple[State, ...]] = {
    "registered": (),
    "provisioned": (),
    "active": ("active",),
    "suspended": ("active", "suspended"),
}


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


async def enrolled(registry: Registry, device: str = "sd-1", serial: str = "0a") -> None:
    """A device with a certificate that has spoken."""
    await registry.record_certificate(Certificate(serial, device, "fire", LONG_MS, "ff"), "est")
    await registry.activate(device, "ingest")


async def add(registry: Registry, device: str, model: str = "iotcore-smoke-heat", **fields: str) -> None:
    place = {"premises": "truong-1", "zone": "truong-1-z1"} if model == "iotcore-smoke-heat" else {}
    entry = {"id": device, "title": device, "model": model, **place, **fields}
    await registry.import_city({"devices": [entry]}, SPECS, "tester")


async def state(registry: Registry, device: str = "sd-1") -> str:
    return (await registry.directory(SPECS)).devices[device].state


@pytest.mark.parametrize("before", STEPS)
async def test_a_replaced_unit_is_out_and_the_new_one_begins_at_the_same_place(
    registry: Registry, places: Places, clock: ManualClock, before: str
) -> None:
    added_ms = int(clock.wall_ms())
    if before != "registered":
        await registry.record_certificate(Certificate("0a", "sd-1", "fire", LONG_MS, "ff"), "est")
    for step in STEPS[before]:
        await registry.set_state("sd-1", step, "tester")
    left_over = await registry.create_token("sd-1", DAY_S) if before != "suspended" else ""
    await places.note(Subject("device", "sd-1"), "Trần ẩm", "minh")
    clock.advance(60.0)
    cursor = await registry.last_change()
    done, token = await places.replace("sd-1", Another("SN-0002", "", "vỏ vỡ"), SPECS, "minh", token_s=DAY_S)
    assert (done.before, done.state) == ("SN-0001", "registered")
    assert done.revoked == (() if before == "registered" else ("0a",))
    assert [one.serial for one in await registry.certificates("sd-1") if one.revoked_ms is None] == []
    assert ("device", "sd-1") in {(one.kind, one.key) for one in await registry.changes_after(cursor)}
    binding = (await registry.directory(SPECS)).devices["sd-1"]
    assert (binding.state, binding.premises, binding.zone) == ("registered", "truong-1", "truong-1-z1")
    known = await places.known(Subject("device", "sd-1"))
    assert (known.entry["serial"], known.entry["location"]) == ("SN-0002", "Trần, trên cửa phòng 101")
    assert [note.text for note in known.notes] == ["Trần ẩm"]
    assert [(unit.serial, unit.from_ms, unit.to_ms, unit.why) for unit in known.units] == [
        ("SN-0002", added_ms + 60_000, None, ""),
        ("SN-0001", added_ms, added_ms + 60_000, "vỏ vỡ"),
    ]
    async with Admissions(registry.database, lambda model: anchors_of(SPECS, model)) as admissions:
        if left_over:  # the old unit's
            with pytest.raises(EnrolmentError, match="token"):
                await admissions.admit(asking("sd-1", left_over, "old"))
        await admissions.admit(asking("sd-1", token, "new"))
    assert await registry.activate("sd-1", "ingest")


async def test_what_stands_for_the_old_unit_is_on_the_list_of_what_is_refused(registry: Registry, places: Places) -> None:
    await enrolled(registry)
    await places.replace("sd-1", Another("SN-0002", "", "vỏ vỡ"), SPECS, "minh", token_s=DAY_S)
    (refused,) = await registry.standings([])
    assert (refused.certificate.serial, refused.certificate.revoked_ms is not None) == ("0a", True)


async def test_a_model_of_the_same_class_may_follow_and_no_other(registry: Registry, places: Places) -> None:
    other = next(
        model
        for model, spec in SPECS.items()
        if (spec.device_class, spec.protocol) == ("fire_detector", "canonical") and model != "iotcore-smoke-heat"
    )
    await places.replace("sd-1", Another("X-1", other, "không còn sản xuất"), SPECS, "minh", token_s=DAY_S)
    assert (await registry.directory(SPECS)).devices["sd-1"].spec.model == other
    with pytest.raises(Refused, match="other_class"):
        await places.replace("sd-1", Another("X-2", "iotcore-mqtt-signal", "thử"), SPECS, "minh", token_s=DAY_S)
    assert [unit.serial for unit in (await places.known(Subject("device", "sd-1"))).units] == ["X-1", "SN-0001"]


async def test_why_a_unit_cannot_be_replaced(registry: Registry, places: Places) -> None:
    await add(registry, "sd-2", serial="SN-0002")
    before = await registry.audit_head()
    for another, reason in (
        (Another("", "", "vỡ"), "no_serial"),
        (Another("SN-0001", "", "vỡ"), "same_unit"),
        (Another("SN-0009", "", " "), "no_reason"),
        (Another("SN-0009", "", "x" * 201), "no_reason"),
    ):
        with pytest.raises(Refused, match=reason):
            await places.replace("sd-1", another, SPECS, "minh", token_s=DAY_S)
    with pytest.raises(Refused, match="unknown_device"):
        await places.replace("sd-9", Another("SN-0009", "", "vỡ"), SPECS, "minh", token_s=DAY_S)
    with pytest.raises(ConfigError, match="same serial as 'sd-2'"):
        await places.replace("sd-1", Another("SN-0002", "", "vỡ"), SPECS, "minh", token_s=DAY_S)
    with pytest.raises(ConfigError, match="no spec for"):
        await places.replace("sd-1", Another("SN-0009", "unheard-of", "vỡ"), SPECS, "minh", token_s=DAY_S)
    assert await registry.audit_head() == before
    await places.retire("sd-1", "tháo dỡ", SPECS, "minh", anyway=True)
    with pytest.raises(Refused, match="retired"):
        await places.replace("sd-1", Another("SN-0009", "", "vỡ"), SPECS, "minh", token_s=DAY_S)


async def test_a_unit_behind_a_gateway_needs_no_token(registry: Registry, places: Places) -> None:
    await add(registry, "gw-1", "iotcore-modbus-gateway")
    await add(registry, "air-1", "vaisala-aqt530", parent="gw-1", connection="tcp://10.0.0.7:502?device_id=1", serial="V1")
    done, token = await places.replace("air-1", Another("V2", "", "hỏng"), SPECS, "minh", token_s=DAY_S)
    assert (done.state, token) == ("provisioned", "")
    assert (await registry.directory(SPECS)).devices["air-1"].publisher == "gw-1"


async def test_a_vendor_s_device_gets_no_token_it_could_not_use(registry: Registry, places: Places) -> None:
    vendor = next(model for model, spec in SPECS.items() if spec.mqtt is not None and spec.device_class != "gateway")
    fields = {"premises": "truong-1"} if SPECS[vendor].device_class == "fire_detector" else {}
    await add(registry, "v-1", vendor, serial="V1", **fields)
    done, token = await places.replace("v-1", Another("V2", "", "hỏng"), SPECS, "minh", token_s=DAY_S)
    assert (done.state, done.enrols, token) == ("registered", False, "")


async def test_the_claim_of_a_replaced_unit_has_no_place_any_more(registry: Registry, places: Places, clock: ManualClock) -> None:
    enrolments = Enrolments(registry.database)
    lot = [UnitEntry("iotcore-smoke-heat", serial, hash_of(f"secret {serial}")) for serial in ("SN-0001", "SN-0002")]
    await enrolments.tell("lot", lot, DAY_S, "maker")
    clock.advance(5.0)
    await enrolments.bind("SN-0001", "sd-1", "minh")
    bound_ms = int(clock.wall_ms())
    clock.advance(5.0)
    await places.replace("sd-1", Another("SN-0002", "", "vỡ"), SPECS, "minh", token_s=DAY_S)
    assert [(unit.serial, unit.state) for unit in await enrolments.units("lot")] == [("SN-0001", "known"), ("SN-0002", "known")]
    assert [unit.from_ms for unit in (await places.known(Subject("device", "sd-1"))).units] == [bound_ms + 5000, bound_ms]
    assert await enrolments.bind("SN-0002", "sd-1", "minh")  # the new one may enrol by its own claim as well as by its token


async def test_what_a_replaced_unit_had_asked_for_is_not_given_to_it_any_more(registry_url: str, clock: ManualClock) -> None:
    async with book(registry_url, [device("d1", "smoke-heat", serial="SN-1")], clock) as kept:
        token = await kept.enrolments.create_token("d1", DAY_S, "minh", approval=True)
        mine = asking("d1", token, "the old unit's key")
        assert await said(kept, mine) == words.PENDING
        (asked,) = await kept.enrolments.requests()
        await kept.enrolments.decide(asked.id, "an", approve=True)
        await Places(kept.registry.database).replace("d1", Another("SN-2", "", "vỡ"), MADE_UP, "minh", token_s=DAY_S)
        assert await kept.enrolments.requests() == []
        assert await said(kept, mine) == words.TOKEN
        assert await kept.registry.certificates("d1") == []


async def test_a_released_unit_is_history_too(registry: Registry, places: Places, clock: ManualClock) -> None:
    enrolments = Enrolments(registry.database)
    lot = [UnitEntry("iotcore-smoke-heat", serial, hash_of(f"secret {serial}")) for serial in ("SN-0002", "SN-0003")]
    await enrolments.tell("lot", lot, DAY_S, "maker")
    await add(registry, "sd-2")
    await enrolments.bind("SN-0003", "sd-2", "minh")
    await enrolments.release("SN-0003", "minh")
    clock.advance(5.0)
    await enrolments.bind("SN-0002", "sd-2", "minh")
    clock.advance(5.0)
    await places.retire("sd-2", "tháo dỡ", SPECS, "minh", anyway=True)
    units = (await places.known(Subject("device", "sd-2"))).units
    assert [(unit.serial, unit.why, unit.to_ms is None) for unit in units] == [
        ("SN-0002", "retired: tháo dỡ", False),
        ("SN-0003", "released", False),
    ]
    assert units[0].to_ms == units[0].from_ms + 5000
    assert [(unit.serial, unit.state) for unit in await enrolments.units("lot")] == [("SN-0002", "known"), ("SN-0003", "known")]


async def test_the_password_of_a_replaced_vendor_s_device_is_worth_nothing(registry: Registry, places: Places) -> None:
    await registry.keep_credential("sd-1", "$7$hash", "tester")
    await places.replace("sd-1", Another("SN-0002", "", "vỡ"), SPECS, "minh", token_s=DAY_S)
    assert await registry.credentials() == {}


async def test_retiring_says_beforehand_what_it_does_and_then_does_it(
    registry: Registry, places: Places, clock: ManualClock
) -> None:
    await enrolled(registry)
    await registry.create_token("sd-1", DAY_S)
    before = await registry.audit_head()
    plan = await places.plan_retirement("sd-1", SPECS)
    assert await registry.audit_head() == before
    assert (plan.state, plan.certificates, plan.tokens, plan.children) == ("active", ("0a",), 1, ())
    assert plan.unwatched == ("zone truong-1-z1", "premises truong-1")
    assert plan.stood == (
        "Trường (truong-1), 1 Lê Lợi; zone 1 Hành lang (truong-1-z1); Trần, trên cửa phòng 101; "
        "unit SN-0001 of iotcore-smoke-heat"
    )
    with pytest.raises(Refused, match=r"last_detector.*zone truong-1-z1 and in premises truong-1; --anyway"):
        await places.retire("sd-1", "tháo dỡ", SPECS, "minh")
    assert await state(registry) == "active"
    clock.advance(5.0)
    assert await places.retire("sd-1", "tháo dỡ", SPECS, "minh", anyway=True) == plan
    assert await places.retire("sd-1", "tháo dỡ", SPECS, "minh", anyway=True) is None
    binding = (await registry.directory(SPECS)).devices["sd-1"]
    assert (binding.state, binding.accepted, binding.premises, binding.zone) == ("retired", False, "", "")
    assert [one.state for one in await registry.standings([])] == ["retired"]
    with pytest.raises(Refused, match="not_enrollable"):
        await registry.create_token("sd-1", DAY_S)
    known = await places.known(Subject("device", "sd-1"))
    assert [(unit.serial, unit.to_ms, unit.why) for unit in known.units] == [
        ("SN-0001", int(clock.wall_ms()), "retired: tháo dỡ")
    ]
    assert known.notes[0].text == f"Retired: tháo dỡ. It stood at: {plan.stood}"
    with pytest.raises(Refused, match="retired"):
        await places.change("devices", "sd-1", {"location": "x"}, specs=SPECS, by="minh")


async def test_the_place_and_the_unit_are_free_for_others(registry: Registry, places: Places) -> None:
    await places.retire("sd-1", "tháo dỡ", SPECS, "minh", anyway=True)
    await add(registry, "sd-2", serial="SN-0001")  # the same unit, at the same place, as another device
    await enrolled(registry, "sd-2", "0b")
    assert await state(registry, "sd-2") == "active"
    await registry.set_state("sd-2", "suspended", "tester")
    await places.retire("sd-2", "thử", SPECS, "minh", anyway=True)
    await places.remove("zone", "truong-1-z1", "minh")


async def test_an_old_document_brings_back_no_unit_that_is_gone(registry: Registry, places: Places) -> None:
    await add(registry, "sd-2", serial="SN-0002")
    await places.replace("sd-1", Another("SN-0009", "", "vỡ"), SPECS, "minh", token_s=DAY_S)
    with pytest.raises(ConfigError, match=r"devices\[0\].serial: unit SN-0009 stands there; `iotcore device replace sd-1"):
        await registry.import_city(copy.deepcopy(PLACES), SPECS, "tester")
    corrected = copy.deepcopy(PLACES)
    corrected["devices"][0]["serial"] = "SN-0009"
    await registry.import_city(corrected, SPECS, "tester")
    await places.retire("sd-1", "tháo dỡ", SPECS, "minh", anyway=True)
    with pytest.raises(ConfigError, match=r"devices\[0\].id: 'sd-1' is retired"):
        await registry.import_city(corrected, SPECS, "tester")
    assert await state(registry) == "retired"


async def test_a_detector_that_another_one_stands_in_for_goes_without_a_question(registry: Registry, places: Places) -> None:
    await add(registry, "sd-2")
    assert (await places.plan_retirement("sd-1", SPECS)).unwatched  # the other one does not work yet
    await enrolled(registry, "sd-2", "0b")
    assert (await places.plan_retirement("sd-1", SPECS)).unwatched == ()
    assert await places.retire("sd-1", "tháo dỡ", SPECS, "minh")
    await add(registry, "sd-3", zone="")
    plan = await places.plan_retirement("sd-2", SPECS)
    assert plan.unwatched == ("zone truong-1-z1", "premises truong-1")
    await enrolled(registry, "sd-3", "0c")
    assert (await places.plan_retirement("sd-2", SPECS)).unwatched == ("zone truong-1-z1",)


async def test_a_gateway_stays_as_long_as_something_stands_behind_it(registry: Registry, places: Places) -> None:
    await add(registry, "gw-1", "iotcore-modbus-gateway")
    await add(registry, "air-1", "vaisala-aqt530", parent="gw-1", connection="tcp://10.0.0.7:502?device_id=1")
    assert (await places.plan_retirement("gw-1", SPECS)).children == ("air-1",)
    with pytest.raises(Refused, match=r"has_children.*air-1 stand behind 'gw-1'"):
        await places.retire("gw-1", "tháo dỡ", SPECS, "minh", anyway=True)
    await places.retire("air-1", "tháo dỡ", SPECS, "minh")  # no fire device: nobody is asked
    await places.retire("gw-1", "tháo dỡ", SPECS, "minh")
    assert {await state(registry, device) for device in ("air-1", "gw-1")} == {"retired"}


@pytest.mark.parametrize("why", ["", "   ", "x" * 201])
async def test_nobody_retires_a_device_without_a_reason(places: Places, why: str) -> None:
    with pytest.raises(Refused, match="no_reason"):
        await places.retire("sd-1", why, SPECS, "minh", anyway=True)
    with pytest.raises(Refused, match="unknown_device"):
        await places.retire("sd-9", "x", SPECS, "minh")


async def test_a_certificate_of_the_old_unit_that_has_run_out_is_revoked_too(
    registry: Registry, places: Places, clock: ManualClock
) -> None:
    await registry.record_certificate(Certificate("0e", "sd-1", "fire", int(clock.wall_ms()) - 1, "ff"), "est")
    done, _ = await places.replace("sd-1", Another("SN-0002", "", "vỏ vỡ"), SPECS, "minh", token_s=DAY_S)
    assert done.revoked == ("0e",)
    assert await registry.refuses_certificate("0e"), "on the alternate path it would raise alarms"
