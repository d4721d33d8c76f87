"""Unpacking an archive into an empty folder, laid out as a data folder; nothing outside it is touched.

data/…        where it was                 registry/*.csv   folder/.registry/
named/…       folder/config/…              settings.toml    folder/iotcore.toml, its paths made to fit
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from iotcore.backup import archive, keys
from iotcore.backup.manifest import DATA, NAMED, SEALED, SETTINGS, TABLES, Manifest
from iotcore.errors import StartError
from iotcore.provision.files import FOLDER_MODE, PUBLIC_MODE, SECRET_MODE

COPY_BYTES = 1 << 20
CONFIG = "config"
TABLES_FOLDER = ".registry"
SETTINGS_FILE = "iotcore.toml"
MAX_SEALED_BYTES = 64 << 20


def unpack(file: Path, opener: Callable[[BinaryIO], keys.Identity], folder: Path) -> Manifest:
    """Unpack into `folder`, which is empty; every part is checked.

    Raises:
        StartError: the archive is not whole or does not open; what was unpacked is worth nothing then.
    """
    sealed = bytearray()
    opened: list[keys.Identity] = []

    def key(source: BinaryIO) -> keys.Identity:
        opened.append(opener(source))
        return opened[0]

    def take(name: str, content: IO[bytes]) -> None:
        if name == SEALED:
            sealed.extend(content.read(MAX_SEALED_BYTES))
        else:
            _write(folder / place(name), content, SECRET_MODE if name.endswith(".db") else PUBLIC_MODE)

    manifest = archive.reading(file, key, take)
    archive.unseal(bytes(sealed), opened[0], lambda name, content: _write(folder / place(name), content, SECRET_MODE))
    return manifest


def place(name: str) -> Path:
    """Where a member goes, below the folder.

    Raises:
        StartError: nowhere that is ours.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise StartError(f"The archive holds {name!r}, which would lie outside the folder", "It is not one of ours.")
    if name == SETTINGS:
        return Path(SETTINGS_FILE)
    for begin, home in ((DATA, ""), (NAMED, CONFIG), (TABLES, TABLES_FOLDER)):
        if name.startswith(begin):
            return Path(home, name.removeprefix(begin))
    raise StartError(f"The archive holds {name!r}, which this release does not know", "Use the release it was made with.")


def fitted(text: str, files: Mapping[str, str], folder: Path) -> str:
    """A settings file whose paths lead into `folder`: `files` says where each was."""
    for key, was in files.items():
        now = str(folder) if key == DATA else f"sqlite://{folder / 'registry.db'}" if key == TABLES else str(folder / place(key))
        for quoted in (json.dumps(was, ensure_ascii=False), f"'{was}'"):
            text = text.replace(f"= {quoted}", f"= {json.dumps(now, ensure_ascii=False)}")
    return text


def _write(path: Path, content: IO[bytes], mode: int) -> None:
    path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as out:
        while chunk := content.read(COPY_BYTES):
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
