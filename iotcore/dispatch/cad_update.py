"""The JSON Schema of what a dispatch centre tells us back: `python -m iotcore.dispatch.cad_update` prints it."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from iotcore.journal.cad import Update


def schema() -> dict[str, Any]:
    """The JSON Schema of an update."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Update)}


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode() + "\n")
