"""The folder of files: photos, plans, records, each under the SHA-256 of its content, so that a file is never another one."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection
from pathlib import Path

from iotcore.errors import StartError, StoreError
from iotcore.provision.files import SECRET_MODE, make_folder, write_whole

HASH = re.compile(r"[0-9a-f]{64}")
ORPHAN_AGE_S = 3600.0  # a file whose row is just being written is no orphan


class FileFolder:
    """Files by their hash. Methods block and may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, content: bytes) -> str:
        """Write a file; its SHA-256 in hex. The same content again is the same file, as young as a new one.

        Raises:
            StartError: the folder cannot be written.
        """
        name = hashlib.sha256(content).hexdigest()
        make_folder(self._folder)
        try:
            os.utime(self._folder / name)
        except FileNotFoundError:
            write_whole(self._folder / name, content, SECRET_MODE)
        return name

    def read(self, name: str) -> bytes:
        """The content of the file with this SHA-256.

        Raises:
            StoreError: it is not there, or is not what it was.
        """
        if not HASH.fullmatch(name):
            raise StoreError(f"{name!r} is no SHA-256")
        try:
            content = (self._folder / name).read_bytes()
        except OSError as error:
            raise StoreError(f"{self._folder / name} cannot be read: {error.strerror}; restore it from a backup") from error
        if hashlib.sha256(content).hexdigest() != name:
            raise StoreError(f"{self._folder / name} is not what it was; restore it from a backup")
        return content

    def damaged(self, names: Collection[str]) -> list[str]:
        """Those of `names` that cannot be read as they were, sorted."""
        found = []
        for name in sorted(set(names)):
            try:
                self.read(name)
            except StoreError:
                found.append(name)
        return found

    def sweep(self, used: Collection[str], now_s: float) -> list[str]:
        """Delete the files that are not `used`, and those left half written, once they are an hour old; their names.

        `now_s` is wall time in seconds, as files are dated.

        Raises:
            StartError: one cannot be deleted.
        """
        swept = []
        for path in sorted(self._folder.iterdir()) if self._folder.is_dir() else []:
            ours = HASH.fullmatch(path.name.split(".")[1] if path.name.startswith(".") else path.name)
            if not ours or path.name in used:
                continue
            try:
                if now_s - path.stat().st_mtime >= ORPHAN_AGE_S:
                    path.unlink()
                    swept.append(path.name)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StartError(f"{path} cannot be deleted: {error.strerror}", "Mend the folder's permissions.") from error
        return swept
