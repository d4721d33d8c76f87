"""Spec documents as plain data, for tests of the loader."""

from __future__ import annotations

import json
from typing import Any

import pytest

from iotcore.errors import SpecError
from iotcore.specs import load
from iotcore.specs.model import DeviceSpec

POINT = {"modbus": {"table": "holding", "address": 0, "type": "int16"}}
STATES = {"0": "good", "1": "uncertain:why", "2": "bad:why"}


def document(points: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "model": "acme-1",
        "vendor": "Acme",
        "title": "Acme 1",
        "device_class": "air_station",
        "protocol": "modbus",
        "source": "Acme manual 1.0",
        "verified": "for tests only",
        "interval_s": 60,
        "points": {"one": POINT} if points is None else points,
    } | changes


def written(plain: Any) -> bytes:
    """JSON is YAML, but for its words for what is not finite."""
    text = json.dumps(plain, ensure_ascii=False)
    return text.replace("NaN", ".nan").replace("-Infinity", "-.inf").replace("Infinity", ".inf").encode()


def parse(plain: Any, file: str = "acme-1.yaml") -> DeviceSpec:
    return load.parse(written(plain), file)


def problems(plain: Any, file: str = "acme-1.yaml") -> list[tuple[str, str]]:
    with pytest.raises(SpecError) as caught:
        parse(plain, file)
    assert {problem.file for problem in caught.value.problems} == {file}
    return [(problem.path, problem.reason) for problem in caught.value.problems]


def wire(**changes: Any) -> dict[str, Any]:
    return {"modbus": {"table": "holding", "address": 0, "type": "int16"} | changes}
