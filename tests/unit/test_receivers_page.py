"""docs/receivers.md says what the code does: its frame, its tables, its settings, and its ten lines of Python are run."""

from __future__ import annotations

import json
import re
import time
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from iotcore import settings
from iotcore.dispatch import sia_event
from iotcore.dispatch.cad_webhook import report, sign
from iotcore.dispatch.sia_frame import Address, message
from tests.support.fire import notice

PAGE = (Path(__file__).parents[2] / "docs" / "receivers.md").read_text(encoding="utf-8")
TOLD = msgspec.structs.replace(notice(), incident="F20261122-020000-3FA9C1")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def test_the_frame_is_the_one_that_is_sent() -> None:
    sent = message("SIA-DCS", 7, Address("1", "0", "1001"), sia_event.content(TOLD), TOLD.occurred_ms / 1000.0)
    assert block("frame").strip() == sent.decode().replace("\n", "<LF>").replace("\r", "<CR>")


def test_the_codes_are_the_ones_that_are_sent() -> None:
    table = PAGE.partition("| Hazard |")[2].partition("\n\n")[0]
    rows = {tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.splitlines()[2:]}
    codes = {**sia_event.CODES, "any other": sia_event.UNKNOWN_HAZARD}
    assert rows == {(hazard, *pair) for hazard, pair in codes.items()}


def test_the_settings_are_accepted() -> None:
    receivers = tomllib.loads(block("toml"))["receivers"]
    assert settings.check({"data": ".", **tomllib.loads(block("alternate"))}, "receivers.md").receivers[0].alternate == "arc-2"
    checked = settings.check({"data": ".", "receivers": receivers}, "receivers.md")
    for receiver, written in zip(checked.receivers, receivers, strict=True):
        assert written.items() <= (msgspec.structs.asdict(receiver) | {"kind": receiver.__struct_config__.tag}).items()


def test_the_document_is_the_one_that_is_posted() -> None:
    assert json.loads(block("json")) == json.loads(msgspec.json.encode(report(TOLD)))


@pytest.mark.parametrize(
    ("change", "genuine"),
    [
        ({}, True),
        ({"secret": "another"}, False),
        ({"body": b"{}"}, False),
        ({"age_s": 301}, False),
        ({"timestamp": "now"}, False),
        ({"signature": "v1=ü"}, False),
    ],
)
def test_the_ten_lines_of_python_know_a_genuine_request(change: dict[str, Any], genuine: bool) -> None:  # noqa: FBT001 - a table
    lines: dict[str, Any] = {}
    exec(compile(block("python"), "receivers.md", "exec"), lines)
    body = msgspec.json.encode(report(TOLD))
    timestamp = str(int(time.time()) - change.get("age_s", 0))
    headers = {
        "Iotcore-Timestamp": change.get("timestamp", timestamp),
        "Iotcore-Signature": change.get("signature", sign("a long shared secret", timestamp, body)),
    }
    secret = change.get("secret", "a long shared secret")
    assert lines["is_genuine"](secret, headers, change.get("body", body)) is genuine
