"""Passwords: argon2id, and what may be one. Pure but for the time and memory it takes: run `verify` and `hashed` in a thread."""

from __future__ import annotations

import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from iotcore.errors import Refused

LEAST_LENGTH = 12  # characters; OWASP ASVS 5.0, 6.2.1: at least 8, 15 are better
MOST_LENGTH = 200  # characters; ASVS 6.2.9 asks for 64 at least
LEAST_DISTINCT = 5
_HASHER = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)  # RFC 9106, 4: the second recommended choice: 3 passes, 64 MiB
# What the password of an unknown user is compared with: of random bytes that nobody kept. A test holds its parameters to today's.
NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$vhChrOT/WodguQ2DZS7CCg$nwzufgpl+8hux1vQfzGrpO1boZbYT4ZFIibaZ0oxsn0"


def hashed(password: str) -> str:
    """What is stored of it: argon2id with its salt and parameters. It takes 64 MiB and tens of ms."""
    return _HASHER.hash(_normal(password))


def verify(stored: str, password: str) -> bool:
    """Whether it is the one; as much work for "" (no password, or no such user) as for any."""
    try:
        _HASHER.verify(stored or NOBODY, _normal(password))
    except (VerificationError, InvalidHashError):
        return False
    return bool(stored)


def is_old(stored: str) -> bool:
    """Whether it was made with other parameters than those of today: make it anew while the password is at hand."""
    return _HASHER.check_needs_rehash(stored)


def check(password: str, name: str) -> None:
    """Refuse what is guessed first.

    Raises:
        Refused: `weak_password`, with what to do.
    """
    text = _normal(password)
    if not LEAST_LENGTH <= len(text) <= MOST_LENGTH:
        raise Refused("weak_password", f"a password has {LEAST_LENGTH} to {MOST_LENGTH} characters")
    if len(set(text)) < LEAST_DISTINCT:
        raise Refused("weak_password", f"a password has at least {LEAST_DISTINCT} different characters")
    if name.lower() in text.lower() and len(text) < LEAST_LENGTH + len(name):
        raise Refused("weak_password", "a password is more than the user's name and a few characters")


def _normal(password: str) -> str:
    """Keyboards write ế in several ways (NIST SP 800-63B, 5.1.1.2: normalise before hashing)."""
    return unicodedata.normalize("NFKC", password[: 4 * MOST_LENGTH])
