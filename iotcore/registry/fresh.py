"""Secrets that a person carries from one place to another: by hand, on a command line, in a QR code."""

from __future__ import annotations

import secrets

AMBIGUOUS = "-"  # at the start it would be taken for an option of a command


def secret(least_bytes: int) -> str:
    """A new secret of at least so many random bytes: letters, digits, `_` and `-`, and never a `-` first."""
    while (found := secrets.token_urlsafe(least_bytes + 1)).startswith(AMBIGUOUS):
        pass
    return found
