"""Strict decoding of configuration documents: every problem of a file at once, each with its path.

msgspec stops at the first error; a person who mends a file wants all of them. The walk below converts field by field.
"""

from __future__ import annotations

import types
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

import msgspec

from iotcore.errors import ConfigError, Problem

T = TypeVar("T")


def convert(document: Any, to: type[T], file: str) -> T:
    """Turn plain data (parsed TOML or YAML) into `to`, a msgspec Struct type.

    Raises:
        ConfigError: with every unknown key, missing key and wrong value of the document.
    """
    if _is_strict(cast(Any, to)):
        try:
            return msgspec.convert(document, to)
        except msgspec.ValidationError:
            pass  # the walk says everything that is wrong, not only the first thing
    problems = _problems(document, to, file, "")
    if problems:
        raise ConfigError(problems)
    try:
        return msgspec.convert(document, to)
    except msgspec.ValidationError as error:  # a rule of the whole, such as __post_init__
        raise ConfigError([Problem(file, "", str(error))]) from error


@cache
def _is_strict(to: Any) -> bool:
    """Whether msgspec itself refuses every unknown key of `to` and of what it holds, so that a sound document needs no walk."""
    seen: list[Any] = [to]
    for kind in seen:  # it grows: whatever a field may hold is looked at too, once
        is_struct = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
        if is_struct and not kind.__struct_config__.forbid_unknown_fields:
            return False
        inner = [field.type for field in msgspec.structs.fields(kind)] if is_struct else get_args(kind)
        if get_origin(kind) is not Literal:
            seen += [part for part in inner if part not in seen]
    return True


def _problems(value: Any, to: Any, file: str, path: str) -> list[Problem]:
    struct = _struct_for(value, to)
    if struct is not None:
        return _struct_problems(value, struct, file, path)
    origin, args = get_origin(to), get_args(to)
    if origin is tuple and isinstance(value, list) and len(value) == len(args) and ... not in args:  # a pair, a triple
        return [p for i, item in enumerate(value) for p in _problems(item, args[i], file, f"{path}[{i}]")]
    if args and isinstance(value, list) and (origin is list or (origin is tuple and ... in args)):
        return [p for i, item in enumerate(value) for p in _problems(item, args[0], file, f"{path}[{i}]")]
    if origin is dict and isinstance(value, dict):
        entries = [(key, item, _join(path, str(key))) for key, item in value.items()]
        return [p for key, item, at in entries for p in _problems(key, args[0], file, at) + _problems(item, args[1], file, at)]
    try:
        msgspec.convert(value, to)
    except msgspec.ValidationError as error:
        return [Problem(file, path, str(error))]
    return []


def _struct_for(value: Any, to: Any) -> type[msgspec.Struct] | None:
    """The Struct type that `value` should have: `to` itself, or the member of a union that its tag names."""
    if isinstance(to, type) and issubclass(to, msgspec.Struct):
        return to
    if get_origin(to) not in (Union, types.UnionType) or value is None:
        return None
    structs = [arg for arg in get_args(to) if isinstance(arg, type) and issubclass(arg, msgspec.Struct)]
    if len(structs) == 1:
        return structs[0] if isinstance(value, dict) else None
    for struct in structs:
        config = struct.__struct_config__
        if isinstance(value, dict) and config.tag is not None and value.get(config.tag_field) == config.tag:
            return struct
    return None


def _struct_problems(value: Any, struct: type[msgspec.Struct], file: str, path: str) -> list[Problem]:
    if not isinstance(value, dict):
        return [Problem(file, path, f"expected a table, got {type(value).__name__}")]
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    tag_field = struct.__struct_config__.tag_field
    known = sorted(fields)
    problems = [
        Problem(file, _join(path, str(key)), f"unknown key; known are: {', '.join(known)}")
        for key in value
        if key not in fields and key != tag_field
    ]
    for name, field in fields.items():
        if name in value:
            problems += _problems(value[name], field.type, file, _join(path, name))
        elif field.required:
            problems.append(Problem(file, _join(path, name), "missing"))
    if not problems:
        try:
            msgspec.convert(value, struct)
        except msgspec.ValidationError as error:
            problems.append(Problem(file, path, str(error)))
    return problems


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
