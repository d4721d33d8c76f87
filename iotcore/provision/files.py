"""Files that are whole or not there: written beside the target, synced, then renamed; keys are readable by their owner alone."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iotcore.errors import StartError

SECRET_MODE = 0o600
PUBLIC_MODE = 0o644
FOLDER_MODE = 0o700


def write_whole(path: Path, content: bytes, mode: int = PUBLIC_MODE) -> None:
    """Replace `path` with `content` so that a reader, or a power cut, meets the old file or the new one, never half of it.

    Raises:
        StartError: when the folder cannot be written.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise StartError(f"{path} cannot be written: {error.strerror}", "Free disk space or make the folder writable.") from error


def make_folder(path: Path) -> Path:
    """Make `path` (and its parents) if it is not there; only its owner may look in.

    Raises:
        StartError: when it cannot be made.
    """
    try:
        path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(
            f"The folder {path} cannot be made: {error.strerror}", "Choose a data folder that is writable."
        ) from error
    return path


def read_or_explain(path: Path, remedy: str) -> bytes:
    """The content of a file that has to be there.

    Raises:
        StartError: with `remedy` when it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartError(f"{path} cannot be read: {error.strerror}", remedy) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes while the block runs; the kernel drops it when a process dies."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, SECRET_MODE)
    except OSError as error:
        raise StartError(f"{path} cannot be opened: {error.strerror}", "Make the folder writable.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
