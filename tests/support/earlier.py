"""An authority as the release before made it: each root, of path length 0, signs by itself."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from iotcore.clock import Clock, SystemClock
from iotcore.provision import profile
from iotcore.provision.ca import COMPLETE, DEFAULT_CRL_URL, Anchor, Authority
from iotcore.provision.files import SECRET_MODE, make_folder, write_whole
from tests.support.pki import PASSPHRASE


def earlier_authority(folder: Path, clock: Clock | None = None) -> Authority:
    """The files of the release before in `folder`/ca, opened by this one."""
    clock = clock or SystemClock()
    now = datetime.fromtimestamp(clock.wall_ms() / 1000.0, UTC)
    for anchor in Anchor:
        home = make_folder(folder / "ca" / anchor.value)
        key = ec.generate_private_key(ec.SECP256R1())
        root = profile.root(f"iotcore {anchor.value} root {secrets.token_hex(4)}", key, now, path_length=0)
        encrypted = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(PASSPHRASE)
        )
        write_whole(home / "root.key", encrypted, SECRET_MODE)
        write_whole(home / "root.pem", root.public_bytes(serialization.Encoding.PEM))
        empty = profile.revocations(profile.Issuer(root, key, f"{DEFAULT_CRL_URL}/{anchor.value}.crl"), [], 1, now)
        write_whole(home / "crl.pem", empty.public_bytes(serialization.Encoding.PEM))
    write_whole(folder / "ca" / COMPLETE, b"")
    return Authority.open(folder / "ca", PASSPHRASE, clock)
