"""Lines as a store takes them: `await store.write(*joined(first, second))`."""

from __future__ import annotations


def joined(*lines: bytes) -> tuple[bytes, int]:
    """The body of `lines`, and how many there are."""
    return b"\n".join(lines), len(lines)
