"""Who can open an archive: an X25519 key pair in the age format, or a passphrase.

With a public key (`age1…`) the platform can make backups that it cannot read: the secret half stays with whoever restores. With a
passphrase each archive has a key of its own, which stands at its beginning, encrypted with the passphrase (scrypt).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import pyrage

from iotcore.errors import StartError

BEGIN, END = b"-----BEGIN AGE ENCRYPTED FILE-----", b"-----END AGE ENCRYPTED FILE-----\n"
MAX_LOCK_BYTES = 4_096  # the key under its passphrase takes about 400
MIN_PASSPHRASE = 12  # characters; scrypt makes each guess cost a second
OTHERS = 0o077
SECRET_PREFIX = "AGE-SECRET-KEY-"  # noqa: S105 - how such a key begins
Recipient = Any  # pyrage has no types
Identity = Any


def make_pair(file: Path) -> str:
    """Make a key pair: the secret half goes into `file`, readable by its owner alone; returns the public half.

    Raises:
        StartError: the file is there already, or cannot be written.
    """
    identity = pyrage.x25519.Identity.generate()
    public = str(identity.to_public())
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as out:
            out.write(f"# public key: {public}\n{identity}\n")
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise StartError(f"{file} cannot be made: {error.strerror}", "Choose a file that is not there yet.") from error
    return public


def recipient(text: str) -> Recipient:
    """A public key.

    Raises:
        StartError: it is none.
    """
    try:
        return pyrage.x25519.Recipient.from_str(text.strip())
    except pyrage.RecipientError as error:
        remedy = "Give the line that `iotcore backup key FILE` prints; it begins with age1."
        raise StartError(f"{text!r} is no public key: {error}", remedy) from error


def identity(file: Path) -> Identity:
    """The secret half of a key pair.

    Raises:
        StartError: the file cannot be read, or holds none.
    """
    for line in _secret(file).splitlines():
        if line.startswith(SECRET_PREFIX):
            try:
                return pyrage.x25519.Identity.from_str(line.strip())
            except pyrage.IdentityError as error:
                raise StartError(f"{file} holds a damaged key: {error}", "Take another copy of it.") from error
    raise StartError(f"{file} holds no key of the age format", "Name the file that `iotcore backup key FILE` has made.")


def passphrase(file: Path) -> str:
    """The passphrase in a file: its first line.

    Raises:
        StartError: the file cannot be read, or the passphrase is too short.
    """
    text = _secret(file).partition("\n")[0].strip()
    if len(text) < MIN_PASSPHRASE:
        raise StartError(
            f"The passphrase in {file} has fewer than {MIN_PASSPHRASE} characters", "Make one with: openssl rand -base64 24"
        )
    return text


def lock(secret: str) -> tuple[Recipient, bytes]:
    """A key for one archive, and its secret half under a passphrase: what the archive begins with."""
    made = pyrage.x25519.Identity.generate()
    text: bytes = pyrage.passphrase.encrypt(f"{made}\n".encode(), secret, armored=True)
    return made.to_public(), text if text.endswith(b"\n") else text + b"\n"


def is_locked(file: BinaryIO) -> bool:
    """Whether an archive begins with a key under a passphrase; the position stays."""
    at = file.tell()
    begins = file.read(len(BEGIN))
    file.seek(at)
    return begins == BEGIN


def unlock(file: BinaryIO, secret: str) -> Identity:
    """Read the key at the beginning of an archive; what follows is the archive itself.

    Raises:
        StartError: wrong passphrase, or a damaged beginning.
    """
    text = b""
    while not text.endswith(END):
        line = file.readline(MAX_LOCK_BYTES)
        text += line
        if not line or len(text) > MAX_LOCK_BYTES:
            raise StartError("The archive's beginning is damaged", "Take another copy of it.")
    try:
        opened: bytes = pyrage.passphrase.decrypt(text, secret)
        return pyrage.x25519.Identity.from_str(opened.decode().strip())
    except (pyrage.DecryptError, pyrage.IdentityError) as error:
        raise StartError("The archive does not open with this passphrase", "Give the one it was made with.") from error


def _secret(file: Path) -> str:
    try:
        if file.stat().st_mode & OTHERS:
            raise StartError(f"{file} can be read by others", f"Run: chmod 600 {file}")
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "is not text"
        raise StartError(f"{file} cannot be read: {said}", "Name a file that is there.") from error
