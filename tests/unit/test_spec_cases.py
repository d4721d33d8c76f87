"""Every shipped spec against its cases."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

import pytest

from iotcore.specs.payload import Payload
from tests.support import spec_cases
from tests.support.shipped import SPECS
from tests.support.spec_cases import FILES, expectations, expected


def each_case(*protocols: str) -> pytest.MarkDecorator:
    files = [path for path in FILES if SPECS[path.parent.name].protocol in protocols]
    return pytest.mark.parametrize("path", files, ids=[f"{path.parent.name}/{path.stem}" for path in files])


point_of = attrgetter("point")


@each_case("modbus")
def test_modbus_case(path: Path) -> None:
    case = spec_cases.read(path)
    found = spec_cases.modbus(SPECS[path.parent.name], case)
    if case.get("only"):
        found = tuple(value for value in found if value.point in case["expect"])
        assert sorted(found, key=point_of) == sorted(expected(case["expect"]), key=point_of)
    else:
        assert found == expected(case["expect"])


@each_case("canonical")
def test_canonical_case(path: Path) -> None:
    case = spec_cases.read(path)
    decoded = spec_cases.published(SPECS[path.parent.name], case.get("kind", "reading"), spec_cases.sent(case))
    assert [each.values for each in decoded.readings] == [expected(each) for each in expectations(case)]
    assert [each.reason for each in decoded.refusals] == case.get("refusals", [])
    assert (decoded.presence and decoded.presence.message.state) == case.get("presence")


@each_case("json", "bytes")
def test_vendor_case(path: Path) -> None:
    case = spec_cases.read(path)
    found = spec_cases.vendor(SPECS[path.parent.name], case)
    if "refusals" in case:
        assert [found] == case["refusals"]
        return
    assert isinstance(found, Payload), found
    assert found.values == expected(case["expect"])
    assert (found.test, found.ts, found.firmware) == (case.get("test", False), case.get("ts"), case.get("firmware", ""))


def test_there_are_cases_for_every_model_and_models_for_every_case() -> None:
    folders = {path.parent.name for path in FILES}
    assert folders == set(SPECS)
    assert [model for model in SPECS if len(spec_cases.of_model(model)) < 2] == []
