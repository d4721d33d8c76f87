"""Secrets that are recognised wherever they turn up: as they are, in hex, base64 at any offset, percent-encoded, in UTF-16."""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

UNLIKELY = 12  # characters of a form; a shorter one could be there by chance


def forms(secret: str) -> set[bytes]:
    """How a secret may be written."""
    plain = secret.encode()
    found = {
        plain,
        plain.hex().encode(),
        plain.hex().upper().encode(),
        quote(secret, safe="").encode(),
        secret.encode("utf-16-le"),
    }
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            whole = encode(bytes(offset) + plain)
            first = -(-offset * 4 // 3) if offset else 0  # characters that depend on what stands before
            last = len(whole) - (4 if (offset + len(plain)) % 3 else 0)  # or behind
            found.add(whole[first:last])
    return {form for form in found if len(form) >= UNLIKELY}


def found_in(content: bytes, secrets: dict[str, str]) -> set[str]:
    """The names of the secrets that are in it, also where it is packed."""
    texts = [content]
    for unpack in (gzip.decompress, zlib.decompress):
        try:
            texts.append(unpack(content))
        except (OSError, EOFError, zlib.error):
            continue
    return {name for name, secret in secrets.items() if any(form in text for form in forms(secret) for text in texts)}


def search(folder: Path, secrets: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Each file below a folder with each secret in it."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            for name in sorted(found_in(path.read_bytes(), secrets)):
                yield path.relative_to(folder).as_posix(), name


def private_keys(folder: Path) -> Iterator[Path]:
    """The files below a folder that hold a private key, encrypted or not."""
    return (path for path in folder.rglob("*") if path.is_file() and b"PRIVATE KEY-----" in path.read_bytes())


def readable_by_others(paths: Iterable[Path]) -> list[str]:
    """Those that somebody but their owner could read."""
    return [str(path) for path in paths if path.stat().st_mode & 0o077]
