"""YAML as a device spec may use it: plain data, nothing clever.

The core schema of YAML 1.2, so that a point named `no` (nitric oxide) is not the word false; no anchors or aliases, no merge
keys, no tags beyond the core, and a key that stands twice in a mapping is refused instead of the last one winning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode

TAG = "tag:yaml.org,2002:"
LONGEST_NUMBER = 40  # characters; longer ones are no quantity of this world
NULL = re.compile(r"(?:~|null|)\Z")
BOOL = re.compile(r"(?:true|false)\Z")
INT = re.compile(r"(?:[-+]?[0-9]+|0x[0-9a-fA-F]+)\Z")
FLOAT = re.compile(r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan)\Z")


def parse(text: str) -> Any:
    """The plain data of one YAML document.

    Raises:
        ValueError: with what is wrong and the line it stands on.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - _Loader is a SafeLoader with less
    except yaml.MarkedYAMLError as error:
        last = text.rstrip().count("\n")  # what is missing at the end is missing on the last line
        where = f"line {min(error.problem_mark.line, last) + 1}: " if error.problem_mark is not None else ""
        raise ValueError(f"{where}{error.problem or error.context or 'not YAML'}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


class _Loader(Composer, yaml.CSafeLoader):
    """SafeLoader without YAML 1.1's surprises (see the module's docstring), its events from libyaml, in a third of the time."""

    def __init__(self, stream: str) -> None:
        yaml.CSafeLoader.__init__(self, stream)
        Composer.__init__(self)

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        if isinstance(event := self.peek_event(), yaml.AliasEvent):
            raise ConstructorError(None, None, "aliases are not allowed: write it out", event.start_mark)  # type: ignore[arg-type]
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Node, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        if not isinstance(node, MappingNode):
            raise ConstructorError(None, None, "expected a mapping", node.start_mark)
        mapping: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise ConstructorError(None, None, f"key {key!r} is not text: put it in quotes", key_node.start_mark)
            if key in mapping:
                raise ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            mapping[key] = self.construct_object(value_node, deep=deep)
        return mapping


def _scalar(pattern: re.Pattern[str], make: Callable[[str], Any]) -> Callable[[_Loader, Node], Any]:
    def construct(_loader: _Loader, node: Node) -> Any:
        if not isinstance(node, ScalarNode) or not pattern.match(node.value) or len(node.value) > LONGEST_NUMBER:
            raise ConstructorError(None, None, f"{str(node.value)[:LONGEST_NUMBER]!r} is not of its kind", node.start_mark)
        return make(node.value)

    return construct


def _float(text: str) -> float:
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _core() -> None:
    _Loader.yaml_implicit_resolvers = {}
    _Loader.yaml_constructors = {
        f"{TAG}str": SafeConstructor.construct_yaml_str,
        f"{TAG}seq": SafeConstructor.construct_yaml_seq,
        f"{TAG}map": SafeConstructor.construct_yaml_map,
        None: SafeConstructor.construct_undefined,
    }
    for name, pattern, first, make in (
        ("null", NULL, ["~", "n", ""], lambda _text: None),
        ("bool", BOOL, ["t", "f"], lambda text: text == "true"),
        ("int", INT, list("-+0123456789"), lambda text: int(text, 16) if text.startswith("0x") else int(text)),
        ("float", FLOAT, list("-+.0123456789"), _float),
    ):
        _Loader.add_implicit_resolver(TAG + name, pattern, first)
        _Loader.add_constructor(TAG + name, _scalar(pattern, make))


_core()
