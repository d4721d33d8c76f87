"""The folder of files: photos, plans, records, each under the SHA-256 of its content, so that a file is never another one."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from iotcore.errors import StoreError
from iotcore.provision.files import SECRET_MODE, make_folder, write_whole

HASH = re.compile(r"[0-9a-f]{64}")


class FileFolder:
    """Files by their hash. Methods block and may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, content: bytes) -> str:
        """Write a file; its SHA-256 in hex. The same content again is the same file.

        Raises:
            StartError: the folder cannot be written.
        """
        name = hashlib.sha256(content).hexdigest()
        make_folder(self._folder)
        if not (self._folder / name).exists():
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
