"""A file that is there whole or not at all: written beside its name, then renamed; and the manifest beside an export."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from iotcore.errors import StartError

MANIFEST_SUFFIX = ".manifest.json"
SCHEMA_VERSION = 1  # of the lines and columns of an export


class Manifest(msgspec.Struct, frozen=True):
    """What an export holds. Times are ISO 8601 UTC; `specs` are the models with the SHA-256 of their files."""

    schema: int
    file: str
    format: str
    start: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")
    readings: int
    devices: int
    sha256: str
    bytes: int
    written: str
    store: str
    iotcore: str
    specs: dict[str, str]


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """The file to write into; it gets its name at the end, and is gone when something went wrong.

    Raises:
        StartError: when it is there already, or the disk refuses it.
    """
    part = path.with_name(f"{path.name}.part")
    insist_new(path)
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError as error:
        remedy = "Free disk space, or name another file."
        raise StartError(f"{path} cannot be written: {error.strerror or error}", remedy) from error
    finally:
        part.unlink(missing_ok=True)


def insist_new(path: Path) -> None:
    """Refuse a file that is there; raises StartError."""
    if path.exists():
        raise StartError(f"{path} is there already", "Nothing is replaced: name another file, or move that one away.")


def manifest_of(path: Path) -> Path:
    """Where the manifest of an export is."""
    return path.with_name(f"{path.name}{MANIFEST_SUFFIX}")


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write it beside the export, as text that people read too."""
    with written_whole(manifest_of(path)) as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def checked(path: Path) -> Manifest | None:
    """The manifest of an export, None when it has none.

    Raises:
        StartError: when the file is not the one that the manifest describes.
    """
    place = manifest_of(path)
    if not place.exists():
        return None
    try:
        manifest = msgspec.json.decode(place.read_bytes(), type=Manifest)
    except msgspec.DecodeError as error:
        raise StartError(f"{place} is no manifest: {error}", "Move it away to import the file unchecked.") from error
    if manifest.schema > SCHEMA_VERSION:
        raise StartError(f"{path} was written by a newer iotcore ({manifest.iotcore})", "Import it with that version.")
    if manifest.sha256 != sha256(path):
        raise StartError(f"{path} is not what {place.name} describes", "Fetch it again; it is damaged or cut off.")
    return manifest


def measured(path: Path) -> tuple[str, int]:
    """The SHA-256 of a file and its bytes."""
    return sha256(path), path.stat().st_size


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex, as `sha256sum` says it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
