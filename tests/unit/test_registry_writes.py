"""Every function of the registry that writes a row notes it in the same transaction: read from the code; none is forgotten."""

from __future__ import annotations

import ast
import re

from tests.unit.test_house import ROOT, name, tree

FOLDER = ROOT / "iotcore" / "registry"
WRITE = re.compile(
    r"(?:Row|\.table)\b.*\.(?:bulk_create|bulk_update|create|delete|get_or_create|save|update|update_or_create)$", re.DOTALL
)
BY_HAND = re.compile(r"\.execute_(?:insert|many|query|script)$")
ELSEWHERE = {
    "iotcore/registry/database.py": "writes the notes themselves, and makes the tables",
}
WRITERS_AT_LEAST = 8  # what there was when this was written: a pattern that finds nothing is no test


def functions() -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    return [
        (name(path), node)
        for path in sorted(FOLDER.glob("*.py"))  # the migrations below it write before anybody works
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def calls(node: ast.AST) -> list[str]:
    return [ast.unparse(inner.func) for inner in ast.walk(node) if isinstance(inner, ast.Call)]


def test_what_writes_a_row_notes_it() -> None:
    writers = {}
    for file, node in functions():
        called = calls(node)
        if file not in ELSEWHERE and any(WRITE.search(call) or BY_HAND.search(call) for call in called):
            writers[f"{file}:{node.name}"] = any(call.endswith("work.note") for call in called)
    assert len(writers) >= WRITERS_AT_LEAST
    assert not [writer for writer, notes in writers.items() if not notes], "each needs a work.note(…) beside its write"


def test_nobody_opens_a_transaction_but_the_one_way_to_write() -> None:
    opened = {file for file, node in functions() if any(call.endswith("in_transaction") for call in calls(node))}
    assert opened == {"iotcore/registry/database.py"}
