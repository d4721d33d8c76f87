"""Reading a recorded TLS 1.3 connection with the secrets that SSLKEYLOGFILE has kept: RFC 8446, sections 5 and 7.3.

Only what a test of our own brokers needs: AES-GCM suites, application data, no key update.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

HEADER_BYTES = 5  # type, version, length
CLIENT_HELLO_RANDOM = slice(11, 43)  # in the first record: header 5, handshake header 4, version 2, then the random of 32
APPLICATION_DATA, IV_BYTES = 0x17, 12
HASHES = {32: hashes.SHA256(), 48: hashes.SHA384()}  # by the length of a secret
KEY_BYTES = {32: 16, 48: 32}  # AES-128-GCM goes with SHA-256, AES-256-GCM with SHA-384
Secrets = dict[tuple[str, str], bytes]


def secrets_in(path: Path) -> Secrets:
    """(label, client random in hex) → secret."""
    rows = (line.split() for line in path.read_text(encoding="ascii").splitlines() if not line.startswith("#"))
    return {(label, random): bytes.fromhex(secret) for label, random, secret in rows}


@dataclass(slots=True)
class Direction:
    """One direction of a connection: pieces of ciphertext in, (moment of its last piece, plaintext) out."""

    secret: bytes
    _buffer: bytearray = field(default_factory=bytearray)
    _number: int = 0

    def read(self, pieces: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        """Records of the handshake have other keys: they do not open, and are passed over."""
        length = KEY_BYTES[len(self.secret)]
        cipher, iv = AESGCM(_expand(self.secret, b"key", length)), _expand(self.secret, b"iv", IV_BYTES)
        for moment, piece in pieces:
            self._buffer += piece
            while (record := self._record()) is not None:
                nonce = bytes(a ^ b for a, b in zip(iv, self._number.to_bytes(IV_BYTES, "big"), strict=True))
                try:
                    inner = cipher.decrypt(nonce, record[HEADER_BYTES:], record[:HEADER_BYTES]).rstrip(b"\0")
                except InvalidTag:
                    continue
                self._number += 1
                if inner[-1] == APPLICATION_DATA:
                    yield moment, inner[:-1]

    def _record(self) -> bytes | None:
        if len(self._buffer) < HEADER_BYTES:
            return None
        size = HEADER_BYTES + int(struct.unpack_from("!H", self._buffer, 3)[0])
        if len(self._buffer) < size:
            return None
        record = bytes(self._buffer[:size])
        del self._buffer[:size]
        return record


def _expand(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label with an empty context."""
    name = b"tls13 " + label
    info = struct.pack("!HB", length, len(name)) + name + b"\0"
    return HKDFExpand(HASHES[len(secret)], length, info).derive(secret)
