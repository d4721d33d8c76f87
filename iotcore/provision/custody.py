"""Custody of the passphrase that opens the authority's keys (docs/adr/0004-ca-key-custody.md).

From the environment (a secret store hands it over), else from a file beside the keys that only its owner can read.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from iotcore.errors import StartError
from iotcore.provision.files import SECRET_MODE, locked, make_folder, read_or_explain, write_whole

VARIABLE = "IOTCORE_CA_PASSPHRASE"
PIN_VARIABLE = "IOTCORE_CA_PIN"  # of a security module; never in a file of ours
FILE = "passphrase"
PASSPHRASE_BYTES = 32  # 256 bits, so that the key derivation of the PEM container is not what protects it
MINIMUM_CHARACTERS = 16
OTHERS = 0o077


def pin(environment: Mapping[str, str]) -> str:
    """The PIN of the security module that holds issuing keys; "" where none was given."""
    return environment.get(PIN_VARIABLE, "")


def passphrase(folder: Path, environment: Mapping[str, str]) -> bytes:
    """The passphrase of the authority in `folder`; at the very first start one is made and kept in `folder`/passphrase.

    Raises:
        StartError: too short, readable by others, or gone while the keys are still there.
    """
    from_environment = environment.get(VARIABLE, "")
    if from_environment:
        if len(from_environment) < MINIMUM_CHARACTERS:
            raise StartError(
                f"{VARIABLE} has fewer than {MINIMUM_CHARACTERS} characters", "Make one with: openssl rand -base64 32"
            )
        return from_environment.encode()
    path = make_folder(folder) / FILE
    with locked(folder / "lock"):
        if not path.exists():
            if any(folder.glob("*/root.key")) or any(folder.glob("*/*/issuing.*")):
                raise StartError(
                    f"The passphrase of the certificate authority is missing: neither {VARIABLE} nor {path}",
                    "Set the variable, or restore the file from the backup.",
                )
            write_whole(path, secrets.token_urlsafe(PASSPHRASE_BYTES).encode(), SECRET_MODE)
    if path.stat().st_mode & OTHERS:
        raise StartError(f"{path} can be read by others", f"Run: chmod 600 {path}")
    return read_or_explain(path, f"Make it readable for this user, or set {VARIABLE}.").strip()
