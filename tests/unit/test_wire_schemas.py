"""The published schemas say what the code does, and the page for device makers says what the schemas do."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from drivers.mqtt import canonical, mend
from iotcore.registry.directory import Binding, Directory
from iotcore.wire import schemas
from iotcore.wire.arrival import Arrival
from iotcore.wire.topics import MAX_BATCH, up
from tests.support.shipped import SPECS

PAGE = (Path(__file__).parents[2] / "docs" / "device-makers.md").read_text(encoding="utf-8")
EXAMPLES: list[tuple[str, str]] = re.findall(r"^```json ?([^\n]*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
NOW_MS = 1_795_312_821_000.0
READING = {"boot": "9f3c12ab", "seq": 1, "values": {"smoke": 0.5}}
COMMAND = {"id": "c1", "name": "identify", "expires": 1, "by": "me"}


def judge(kind: str) -> jsonschema.Draft202012Validator:
    document = json.loads((schemas.FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


@pytest.mark.parametrize("kind", schemas.TYPES)
def test_the_schema_is_current(kind: str) -> None:
    found = (schemas.FOLDER / f"{kind}.json").read_text(encoding="utf-8")
    assert found == schemas.text(schemas.schema(kind)), "run: python -m iotcore.wire.schemas"


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        ("reading", READING),
        ("reading", READING | {"ts": None, "backlog": True, "age_ms": 5, "test": True, "fw": "1", "v": 1}),
        ("reading", READING | {"values": {"a": None, "b": True, "c": "text", "d": 1}, "q": {"a": "bad:timeout"}}),
        ("reading", READING | {"values": {}}),
        ("reading", READING | {"added_later": 1}),
        ("reading", [READING] * MAX_BATCH),
        ("reading", []),
        ("status", {"state": "online", "boot": "b", "fw": "1"}),
        ("status", {"state": "offline"}),
        ("command", COMMAND),
        ("command", COMMAND | {"args": {"plan": 3, "mode": "local", "on": True, "none": None}}),
        ("result", {"id": "c1", "state": "done"}),
        ("receipt", {"boot": "b", "up_to": 1, "ts": 1}),
    ],
)
def test_valid_messages_pass_both_schema_and_type(kind: str, document: Any) -> None:
    assert list(judge(kind).iter_errors(document)) == []
    msgspec.convert(document, schemas.TYPES[kind])


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        ("reading", {}),
        ("reading", 1),
        ("reading", READING | {"boot": ""}),
        ("reading", READING | {"boot": "a b"}),
        ("reading", READING | {"boot": "a\n"}),
        ("reading", READING | {"boot": "x" * 33}),
        ("reading", READING | {"seq": 0}),
        ("reading", READING | {"seq": 2**53 + 1}),
        ("reading", READING | {"seq": "1"}),
        ("reading", READING | {"v": 2}),
        ("reading", READING | {"ts": "now"}),
        ("reading", READING | {"age_ms": -1}),
        ("reading", READING | {"backlog": 1}),
        ("reading", READING | {"values": {"a": [1]}}),
        ("reading", READING | {"values": None}),
        ("reading", READING | {"q": {"a": None}}),
        ("reading", [READING] * (MAX_BATCH + 1)),
        ("reading", [READING, 1]),
        ("status", {"state": "asleep"}),
        ("status", {}),
        ("command", {key: value for key, value in COMMAND.items() if key != "expires"}),
        ("command", COMMAND | {"args": {"nested": {}}}),
        ("result", {"id": "c1", "state": "perhaps"}),
        ("receipt", {"boot": "b", "up_to": 0, "ts": 1}),
        ("receipt", {"boot": "b", "up_to": 1}),
    ],
)
def test_invalid_messages_fail_both_schema_and_type(kind: str, document: Any) -> None:
    assert not judge(kind).is_valid(document)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(document, schemas.TYPES[kind])


# the page for device makers


def test_the_page_shows_every_kind_of_message() -> None:
    assert {name.split()[0] for name, _ in EXAMPLES} == set(schemas.TYPES)


@pytest.mark.parametrize(("name", "text"), EXAMPLES, ids=[f"{i}-{name}" for i, (name, _) in enumerate(EXAMPLES)])
def test_an_example_is_what_the_page_says_it_is(name: str, text: str) -> None:
    kind, *refused = name.split()
    assert judge(kind).is_valid(json.loads(text)) == (not refused)
    if kind not in {"reading", "status"}:
        return
    directory = Directory(
        devices={"sd-0412": Binding("sd-0412", "Smoke", SPECS["iotcore-smoke-heat"], "fire", "sd-0412", "active")}
    )
    arrival = Arrival(up("fire", "sd-0412", kind, "sd-0412"), text.encode(), retained=False, received_ms=NOW_MS)
    decoded = canonical.decode(arrival, directory, NOW_MS)
    assert [each.reason for each in decoded.refusals] == (["schema"] if refused else [])
    assert bool(decoded.readings or decoded.presence) == (not refused)
    assert [reading.clock_fault for reading in decoded.readings if reading.clock_fault] == []


def test_every_reason_to_refuse_is_on_the_page() -> None:
    source = inspect.getsource(canonical) + inspect.getsource(mend)
    reasons = set(re.findall(r"""(?:Refused\(|_refusal\()f?["']([a-z_]+)""", source)) | {"topic"}
    assert len(reasons) > 8
    assert [reason for reason in sorted(reasons) if f"`{reason}" not in PAGE] == []


def test_every_reason_for_a_bad_value_is_on_the_page() -> None:
    source = inspect.getsource(canonical) + inspect.getsource(mend)
    reasons = {"out_of_range", "wrong_type", "not_finite", "no_value", "unknown_quality"}
    assert [reason for reason in sorted(reasons) if f'"{reason}"' not in source or f"`{reason}`" not in PAGE] == []


def test_the_table_of_our_profiles_is_that_of_the_specs() -> None:
    rows = dict(re.findall(r"^\| `(iotcore-[a-z-]+)` \| (.*) \|$", PAGE, re.MULTILINE))
    assert rows == {
        model: f"{spec.interval_s:g} s | "
        + ", ".join(f"{name} ({point.unit or point.kind})" for name, point in spec.points.items())
        for model, spec in SPECS.items()
        if spec.protocol == "canonical"
    }
