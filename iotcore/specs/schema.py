"""JSON Schema of device specs, for editors: `python -m iotcore.specs.schema` writes `firmware_specs/schema.json`.

It says what the types say; rules between fields (overlaps, a range outside its raw type) are the loader's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from iotcore.specs.load import shipped_folder
from iotcore.specs.model import DeviceSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def path() -> Path:
    """Where the schema stands: among the specs."""
    return shipped_folder() / "schema.json"


def schema() -> dict[str, Any]:
    """The JSON Schema of a spec file."""
    return {"$schema": DIALECT, "title": "iotcore device spec", **msgspec.json.schema(DeviceSpec)}


def text() -> str:
    """The schema as it stands in its file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the schema."""
    path().write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
