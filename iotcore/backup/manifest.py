"""The manifest: the last member of an archive; what the others are, and where every counter stood."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

FORMAT = 1
MANIFEST = "manifest.json"
SEALED = "sealed.age"  # the files that hold secrets, encrypted once more: who looks into an archive does not see them
SETTINGS = "settings.toml"  # within the sealed ones
DATA = "data/"  # files of the data folder
NAMED = "named/"  # files elsewhere that the settings name
TABLES = "registry/"  # tables of a PostgreSQL registry, CSV


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One member: its size in bytes and the SHA-256 of what it holds, hex."""

    name: str
    size: Annotated[int, Meta(ge=0)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Marks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where what only counts up stood: what a restore must never fall behind."""

    audit_seq: int
    audit_hash: str
    change_id: int
    intent_id: int
    channels: dict[str, int] = {}  # last DC-09 number of each channel
    migration: int = 0  # of the registry's tables; 0: of a release that did not number them
    crl_numbers: dict[str, int] = {}  # of each list, by its name


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an archive holds. `at_ms` is when it was begun, ms UTC; `files` are where the settings had what is in `named/`."""

    format: int
    iotcore: str
    at_ms: int
    registry: Literal["sqlite", "postgres"]
    marks: Marks
    parts: list[Part]
    files: dict[str, str] = {}
    left_out: list[str] = []
    from_environment: list[str] = []  # secrets that came as variables: nobody can restore them from here
