"""Signed heads of the audit chain: what somebody who can rewrite the whole registry still cannot forge.

A file of lines, each a JSON object: number and hash of the last entry, the time, who signed. It is only ever appended to. The key
(Ed25519) is made at the first start and used for nothing else; the authority's passphrase opens it.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from iotcore.errors import StartError, StoreError
from iotcore.provision.files import SECRET_MODE, locked, make_folder, read_or_explain, write_whole
from iotcore.registry.audit import Head, canonical

KEY_FILE = "head.key"
PUBLIC_FILE = "head.pub"
HEADS_FILE = "heads.jsonl"
CONTEXT = "iotcore audit head 1\n"  # so that a signature of ours can stand for nothing else
RESTORED_CONTEXT = "iotcore audit restored 1\n"
MAX_LINE_BYTES = 1_000  # ours have about 300
NAME_DIGITS = 16  # of the key's fingerprint


class SignedHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line. `key` names the key that signed it, `signature` is over the other members.

    `after`: the entry of this head is the first after a restore, and follows that one; what lay between them is lost.
    """

    seq: Annotated[int, Meta(ge=0)]
    hash: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    at_ms: int
    key: str
    signature: str = ""
    after: Head | None = None

    @property
    def head(self) -> Head:
        """As the chain knows it."""
        return Head(self.seq, self.hash)

    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        said = [self.seq, self.hash, self.at_ms, self.key]
        if self.after is None:
            return f"{CONTEXT}{canonical(said)}".encode()
        return f"{RESTORED_CONTEXT}{canonical([*said, list(self.after)])}".encode()


class Exported(NamedTuple):
    """What a file of heads holds: those that our key has signed, and what is wrong with the other lines."""

    heads: list[SignedHead]
    problems: list[str]


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs heads."""

    key: Ed25519PrivateKey

    @classmethod
    def ensure(cls, folder: Path, passphrase: bytes) -> Signer:
        """Open the key in `folder`; at the first start make it.

        Raises:
            StartError: wrong passphrase, or the key is gone while its public half is there.
        """
        path, public = make_folder(folder) / KEY_FILE, folder / PUBLIC_FILE
        with locked(folder / "lock"):
            if not path.exists():
                if public.exists():
                    raise StartError(f"The key that signs the audit is missing: {path}", "Restore it from the backup.")
                key = Ed25519PrivateKey.generate()
                encrypted = serialization.BestAvailableEncryption(passphrase)
                pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
                write_whole(path, key.private_bytes(pem, pkcs8, encrypted), SECRET_MODE)
        try:
            opened = serialization.load_pem_private_key(read_or_explain(path, "Restore it from the backup."), passphrase)
        except ValueError as error:
            raise StartError(f"{path} does not open with this passphrase", "Give the passphrase it was made with.") from error
        assert isinstance(opened, Ed25519PrivateKey)
        if not public.exists():
            write_whole(public, _pem(opened.public_key()))
        return cls(opened)

    def sign(self, head: Head, at_ms: float, after: Head | None = None) -> SignedHead:
        """The line for a head; with `after`, for the first entry after a restore."""
        unsigned = SignedHead(head.seq, head.hash, int(at_ms), _name(self.key.public_key()), after=after)
        signature = base64.b64encode(self.key.sign(unsigned.signed_bytes())).decode()
        return msgspec.structs.replace(unsigned, signature=signature)


def public_key(path: Path) -> Ed25519PublicKey:
    """The key that heads are checked with.

    Raises:
        StartError: when the file is no such key.
    """
    remedy = "Name the platform's head.pub with --key; the keeper makes it at its first start (audit/ in the data folder)."
    try:
        key = serialization.load_pem_public_key(read_or_explain(path, remedy))
    except ValueError as error:
        raise StartError(f"{path} is no public key", remedy) from error
    if not isinstance(key, Ed25519PublicKey):
        raise StartError(f"{path} is no Ed25519 key", remedy)
    return key


def append(path: Path, line: SignedHead) -> None:
    """Add a line, on disk when this returns; a line that a power cut left half written stays, and is said by `read`.

    Raises:
        StoreError: the file cannot be written.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            os.write(handle, (b"\n" if torn else b"") + msgspec.json.encode(line) + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}; make it writable, it is tried again") from error


def read(path: Path, key: Ed25519PublicKey) -> Exported:
    """The heads in a file that `key` has signed.

    Raises:
        StartError: the file cannot be read.
    """
    heads: list[SignedHead] = []
    problems: list[str] = []
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                head = _checked(line, key)
                if isinstance(head, str):
                    problems.append(f"{path}:{number}: {head}")
                else:
                    heads.append(head)
    except OSError as error:
        raise StartError(f"{path} cannot be read: {error.strerror}", "Name a file of exported heads.") from error
    return Exported(heads, problems)


def _checked(line: bytes, key: Ed25519PublicKey) -> SignedHead | str:
    try:
        head = msgspec.json.decode(line, type=SignedHead)
        key.verify(base64.b64decode(head.signature, validate=True), head.signed_bytes())
    except msgspec.DecodeError as error:
        return f"is no head: {error}"
    except ValueError:
        return "has no signature"
    except InvalidSignature:
        return "is not signed by this key, or was changed"
    return head


def _pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _name(key: Ed25519PublicKey) -> str:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))
    return digest.finalize().hex()[:NAME_DIGITS]
