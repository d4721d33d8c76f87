"""No file crashes an importer: it is refused with problems, or becomes a draft that loads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.errors import ConfigError
from iotcore.specs import load
from iotcore.specs.importers import edgex, telegraf, thingsboard
from tests.unit.test_spec_importers import READERS, WANTED, Read

KEYS = st.sampled_from([
    "inputs", "modbus", "name", "configuration_type", "request", "metric", "fields", "holding_registers", "coils", "address",
    "data_type", "type", "byte_order", "scale", "bit", "length", "register", "slave_id", "workarounds", "timeout", "interval",
    "pause_between_requests", "max_word_registers_per_request", "optimization", "baud_rate", "deviceResources", "attributes",
    "properties", "primaryTable", "startingAddress", "rawType", "valueType", "isByteSwap", "stringRegisterSize", "minimum",
    "maximum", "mask", "offset", "readWrite", "value", "master", "slaves", "server", "devices", "timeseries", "tag",
    "functionCode", "objectsCount", "divider", "multiplier", "variants", "pollPeriod", "rpc", "configurationJson", "tagOverrides",
])  # fmt: skip
WORDS = st.sampled_from([
    "request", "metric", "register", "ABCD", "AB", "HGFEDCBA", "INT16", "UINT64", "FLOAT32", "FIXED", "STRING", "BIT", "UINT8L",
    "holding", "coil", "HOLDING_REGISTERS", "COILS", "Bool", "Uint16", "Float32", "String", "R", "RW", "32float", "bits", "8uint",
    "uint", "string", "BIG", "LITTLE", "1s", "70-99", "9-1", "10.5", "0x10", "max_insert", "1e400", "nan",
])  # fmt: skip
LEAVES = st.one_of(
    WORDS,
    st.text(max_size=5),
    st.booleans(),
    st.integers(-3, 70_000),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.none(),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=8),
    max_leaves=40,
)


def toml(value: Any) -> str:
    """A value as TOML writes it inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items() if item is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value if item is not None) + "]"
    return json.dumps(value)


def holds(read: Read, content: bytes) -> None:
    """Whatever the file is, it is refused with problems or becomes a draft that loads."""
    refused: ConfigError | None = None
    try:
        found = read(content, "f", WANTED)
    except ConfigError as error:
        refused = error
    if refused is not None:
        assert refused.problems
        return
    assert load.parse(found.text.encode(), "acme-1.yaml").points.keys() == found.spec.points.keys()


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@given(content=st.binary(max_size=200))
def test_no_bytes_crash_an_importer(read: Read, content: bytes) -> None:
    holds(read, content)


@given(st.lists(TREES, max_size=3), st.lists(st.dictionaries(KEYS, TREES, max_size=6), max_size=4))
def test_no_telegraf_document_crashes_the_importer(trees: list[Any], entries: list[Any]) -> None:
    plugins = "".join(f"[[inputs.modbus]]\n{json.dumps('x')} = {toml(tree)}\n" for tree in trees if tree is not None)
    lists = "\n".join(f"{key} = {toml(entries)}" for key in ("holding_registers", "coils", "request", "metric", "name"))
    holds(telegraf.read, f"{plugins}[[inputs.modbus]]\n{lists}\n".encode())


@given(st.lists(st.dictionaries(KEYS, TREES, max_size=6) | TREES, max_size=4), TREES)
def test_no_edgex_document_crashes_the_importer(resources: list[Any], rest: Any) -> None:
    holds(edgex.read, json.dumps({"deviceResources": resources, "model": rest}).encode())


@given(st.lists(st.dictionaries(KEYS, TREES, max_size=8), min_size=1, max_size=3), TREES)
def test_no_thingsboard_document_crashes_the_importer(tags: list[Any], rest: Any) -> None:
    holds(thingsboard.read, json.dumps({"master": {"slaves": [{"timeseries": tags, "pollPeriod": rest}]}}).encode())
    holds(thingsboard.read, json.dumps(rest).encode())
