"""Secrets of receivers, sealed at rest: AES-256-GCM, each under its name, in `secrets/sealed.json` of the data folder.

The settings name one as `key = "secret:NAME"`; the fire process opens it when it starts. What opens them is a random key in
`secrets/key`, which its owner alone can read, or the passphrase in `IOTCORE_SECRETS_KEY`, stretched with scrypt: then the data
folder alone gives nothing away. The name is sealed with its secret, so that nobody can put one in place of another.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from iotcore.errors import ConfigError, Problem, StartError
from iotcore.settings_receivers import SECRET

VARIABLE = "IOTCORE_SECRETS_KEY"
FOLDER, FILE, KEY_FILE = "secrets", "sealed.json", "key"
KEY_BYTES, NONCE_BYTES, SALT_BYTES = 32, 12, 16  # AES-256; GCM (NIST SP 800-38D); scrypt (RFC 7914)
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 1  # RFC 7914: some 32 MiB and a tenth of a second for each guess
MIN_PASSPHRASE = 12  # characters
MAX_SECRET_BYTES = 65_536
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
OTHERS = 0o077

T = TypeVar("T", bound=msgspec.Struct)


class One(msgspec.Struct, frozen=True):
    """One secret under its key."""

    nonce: bytes
    text: bytes


class Content(msgspec.Struct, frozen=True):
    """The file. `salt` is that of a passphrase."""

    salt: bytes
    secrets: dict[str, One] = {}
    v: int = 1


class Sealed:
    """The sealed secrets of a data folder. `environment` may hold the passphrase."""

    def __init__(self, data: Path, environment: Mapping[str, str]) -> None:
        self._folder = data / FOLDER
        self._passphrase = environment.get(VARIABLE, "")

    def __repr__(self) -> str:
        """Without the passphrase."""
        return f"Sealed({self._folder})"

    def names(self) -> list[str]:
        """The names of all secrets."""
        return sorted(self._content().secrets)

    def set(self, name: str, secret: str) -> None:
        """Keep a secret, in place of one of that name.

        Raises:
            StartError: the name or the secret will not do, or the folder cannot be written.
        """
        if not NAME.fullmatch(name):
            raise StartError(f"{name!r} cannot name a secret", "Use lower-case letters, digits, - and _.")
        if not secret or len(secret.encode()) > MAX_SECRET_BYTES:
            raise StartError("A secret has 1 to 65,536 bytes", "Give it on standard input, or with --file.")
        content = self._content()
        cipher = self._cipher(content, make=True)
        for known, one in content.secrets.items():
            _opened(cipher, known, one)  # nothing is sealed beside what this key cannot open
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = One(nonce, cipher.encrypt(nonce, secret.encode(), name.encode()))
        self._write(msgspec.structs.replace(content, secrets={**content.secrets, name: sealed}))

    def remove(self, name: str) -> bool:
        """Forget a secret; False when there was none."""
        content = self._content()
        if name not in content.secrets:
            return False
        self._write(msgspec.structs.replace(content, secrets={key: one for key, one in content.secrets.items() if key != name}))
        return True

    def plain(self, name: str) -> str:
        """A secret.

        Raises:
            StartError: there is none of that name, or the key is another.
        """
        content = self._content()
        if name not in content.secrets:
            raise StartError(f"There is no secret {name!r}", f"Set it: iotcore secret set {name}")
        return _opened(self._cipher(content), name, content.secrets[name])

    def opened(self, structs: Iterable[T], file: str) -> list[T]:
        """Structs with the secrets that they name in place of the names, in text, lists of text, and tables of text.

        Raises:
            ConfigError: with every secret that cannot be opened.
        """
        problems: list[Problem] = []
        found = []
        for i, struct in enumerate(structs):
            changes: dict[str, Any] = {}
            for field in struct.__struct_fields__:
                value = getattr(struct, field)
                try:
                    if (plain := self._resolved(value)) is not value:
                        changes[field] = plain
                except StartError as error:
                    problems.append(Problem(file, f"receivers[{i}].{field}", str(error)))
            found.append(msgspec.structs.replace(struct, **changes) if changes else struct)
        if problems:
            raise ConfigError(problems)
        return found

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, str) and value.startswith(SECRET):
            return self.plain(value.removeprefix(SECRET))
        if isinstance(value, list) and any(isinstance(one, str) and one.startswith(SECRET) for one in value):
            return [self._resolved(one) for one in value]
        if isinstance(value, dict) and any(isinstance(one, str) and one.startswith(SECRET) for one in value.values()):
            return {key: self._resolved(one) for key, one in value.items()}
        return value

    def _cipher(self, content: Content, *, make: bool = False) -> AESGCM:
        if self._passphrase:
            if len(self._passphrase) < MIN_PASSPHRASE:
                raise StartError(f"{VARIABLE} is too short", f"Use {MIN_PASSPHRASE} characters or more.")
            stretched = Scrypt(content.salt, KEY_BYTES, SCRYPT_N, SCRYPT_R, SCRYPT_P).derive(self._passphrase.encode())
            return AESGCM(stretched)
        path = self._folder / KEY_FILE
        try:
            if make and not path.exists() and not content.secrets:
                _put(path, secrets.token_bytes(KEY_BYTES))
            mode, key = path.stat().st_mode, path.read_bytes()
        except OSError as error:
            raise StartError(f"{path} cannot be read: {error.strerror}", f"Restore it, or set {VARIABLE}.") from error
        if mode & OTHERS:
            raise StartError(f"{path} can be read by others", f"chmod 600 {path}, and set every secret anew.")
        if len(key) != KEY_BYTES:
            raise StartError(f"{path} holds no key", "Restore it from the backup.")
        return AESGCM(key)

    def _content(self) -> Content:
        path = self._folder / FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=Content)
        except FileNotFoundError:
            return Content(secrets.token_bytes(SALT_BYTES))
        except (OSError, msgspec.DecodeError) as error:
            raise StartError(f"{path} cannot be read: {error}", "Restore it from the backup.") from error

    def _write(self, content: Content) -> None:
        _put(self._folder / FILE, msgspec.json.encode(content))


def _opened(cipher: AESGCM, name: str, one: One) -> str:
    try:
        return cipher.decrypt(one.nonce, one.text, name.encode()).decode()
    except InvalidTag as error:
        raise StartError(f"The secret {name!r} was sealed with another key", f"Restore that key, or mend {VARIABLE}.") from error


def _put(path: Path, content: bytes) -> None:
    """A file that is there whole or not at all, and its owner's alone."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StartError(f"{path} cannot be written: {error.strerror}", "Free disk space, or mend its permissions.") from error
