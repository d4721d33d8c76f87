"""JSON Schemas of the wire contract, generated from its types: `python -m iotcore.wire.schemas` writes them beside this file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from iotcore.wire.messages import CommandMessage, ReadingMessage, ReceiptMessage, ResultMessage, StatusMessage
from iotcore.wire.topics import MAX_BATCH

FOLDER = Path(__file__).resolve().parent
DIALECT = "https://json-schema.org/draft/2020-12/schema"
Batch = Annotated[list[ReadingMessage], Meta(max_length=MAX_BATCH)]
TYPES: dict[str, Any] = {
    "reading": ReadingMessage | Batch,
    "status": StatusMessage,
    "command": CommandMessage,
    "result": ResultMessage,
    "receipt": ReceiptMessage,
}


def schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind of message."""
    return {"$schema": DIALECT, "title": f"iotcore wire v1: {kind}", **msgspec.json.schema(TYPES[kind])}


def text(document: dict[str, Any]) -> str:
    """A schema as it stands in its file: stable, so that a change of types is a change one can read."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every schema."""
    for kind in TYPES:
        (FOLDER / f"{kind}.json").write_text(text(schema(kind)), encoding="utf-8")


if __name__ == "__main__":
    main()
