"""Rule documents as people read and write them: YAML, what is different between two, and what a second person says yes to."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import yaml

from iotcore.alarms import rule_book
from iotcore.alarms.rule_saving import Checked, Known
from iotcore.errors import ConfigError, Problem
from iotcore.registry.audit import canonical
from iotcore.specs import yaml12

CHANGES_SHOWN = 20  # lines of a difference that a second person is shown
LINE_SHOWN = 60
KEYS_SHOWN = 200  # characters of them


def parse(text: str, name: str) -> list[tuple[str, Any]]:
    """The rules of a YAML text, each with what to call it: one rule, a list of them, or a rule file.

    Raises:
        ConfigError: it is no YAML, or holds none.
    """
    try:
        found = yaml12.parse(text)
    except ValueError as error:
        raise ConfigError([Problem(name, "", f"is not YAML: {error}")]) from error
    path = ""
    if isinstance(found, dict) and "rules" in found:
        found, path = found["rules"], "rules"
    if isinstance(found, dict):
        return [(name, found)]
    if not isinstance(found, list) or not found:
        raise ConfigError([Problem(name, path, "holds no rule: write one, a list of them, or a rule file")])
    return [(f"{name}: {path}[{number}]", one) for number, one in enumerate(found)]


def body_of(body: str) -> Any:
    """The rule of a stored document as it was written; None for a removal, the text itself for what is no JSON."""
    if not body:
        return None
    try:
        return rule_book.written(msgspec.json.decode(body))
    except msgspec.DecodeError:
        return body


def as_yaml(document: Any) -> str:
    """YAML as a person would write it."""
    text: str = yaml.safe_dump(rule_book.written(document), sort_keys=False, allow_unicode=True, width=120)
    return text


def changed(before: Any, after: Any, names: tuple[str, str] | None = None) -> list[str]:
    """A unified diff of two documents, without its heads unless they have names."""
    lines = [as_yaml(one).splitlines() if one is not None else [] for one in (before, after)]
    before_name, after_name = names or ("", "")
    found = difflib.unified_diff(lines[0], lines[1], before_name, after_name, lineterm="", n=3 if names else 0)
    return list(found) if names else [line for line in found if not line.startswith(("---", "+++", "@@"))]


def asked_of_another(found: Mapping[str, Checked], dangerous: Sequence[str], known: Known) -> dict[str, object]:
    """What a second person says yes to: the very text of what is saved, and what it changes of what protects."""
    texts = [f"{key} {canonical(found[key].body)}" for key in sorted(found)]
    changes = [line for key in dangerous for line in changed(_before(key, found[key].rule.id, known), found[key].body)]
    cut = [*changes[:CHANGES_SHOWN], f"and {len(changes) - CHANGES_SHOWN} more"] if len(changes) > CHANGES_SHOWN else changes
    return {
        "rules": ", ".join(sorted(dangerous))[:KEYS_SHOWN],
        "sha256": hashlib.sha256("\n".join(texts).encode()).hexdigest(),
        "changes": [line[:LINE_SHOWN] for line in cut],
    }


def _before(key: str, rule_id: str, known: Known) -> Any:
    """What a document would stand in the place of: the same one, or else the least specific rule of its id."""
    alike = [one for one in known.in_use.values() if one.rule.id == rule_id]
    found = known.in_use.get(key) or min(alike, key=lambda one: len(rule_book.scope_of(one.rule)), default=None)
    return rule_book.plain(found.rule) if found is not None else None
