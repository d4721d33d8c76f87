"""JSON Schema of device specs, for editors: `python -m iotcore.specs.schema` writes `firmware_specs/schema.json`.

It says what the types say; rules between fields (overlaps, a range outside its raw type) are the loader's.
"""

from __future__ import annotations

import inspect
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
    return {"$schema": DIALECT, "title": "iotcore device spec", **_tidied(msgspec.json.schema(DeviceSpec))}


def _tidied(part: Any) -> Any:
    """Descriptions without the indentation of the docstrings that they are: Python 3.13 takes it away, 3.11 does not."""
    if isinstance(part, list):
        return [_tidied(one) for one in part]
    if isinstance(part, dict):
        return {
            key: inspect.cleandoc(one) if key == "description" and isinstance(one, str) else _tidied(one)
            for key, one in part.items()
        }
    return part


def text() -> str:
    """The schema as it stands in its file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the schema."""
    path().write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
