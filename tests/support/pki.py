"""Our own authority in a test's folder, and devices with certificates of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from iotcore.clock import Clock, SystemClock
from iotcore.provision.ca import Anchor, Authority, IssuedCertificate
from iotcore.provision.services import ensure_service
from tests.support.requests import key_pem, p256
from tests.support.services import require

PASSPHRASE = b"correct horse battery staple"


def authority(folder: Path, clock: Clock | None = None) -> Authority:
    """A new authority in `folder`/ca."""
    return Authority.ensure(folder / "ca", PASSPHRASE, clock or SystemClock())


def device_files(authority_: Authority, folder: Path, anchor: Anchor, name: str) -> tuple[Path, Path, IssuedCertificate]:
    """A device's certificate and key as files, and what was issued."""
    key = p256()
    issued = authority_.issue_device(anchor, key.public_key(), name)
    folder.mkdir(parents=True, exist_ok=True)
    cert_file, key_file = folder / f"{anchor.value}-{name}.pem", folder / f"{anchor.value}-{name}.key"
    cert_file.write_bytes(issued.pem)
    key_file.write_bytes(key_pem(key))
    return cert_file, key_file, issued


def service_files(authority_: Authority, folder: Path, name: str) -> tuple[Path, Path]:
    """A service's certificate and key as files."""
    return ensure_service(authority_, folder / "certs", name, (), SystemClock())


def trust_file(authority_: Authority, folder: Path) -> Path:
    """The service root, whom clients of our brokers and of the enrolment listener trust."""
    path = folder / "service-root.pem"
    path.write_bytes(authority_.root_pem(Anchor.SERVICE))
    return path


async def run(*command: str | Path, stdin: bytes = b"") -> tuple[int, bytes, str]:
    """Run a program to its end: exit code, standard output, standard error."""
    program, *arguments = command
    process = await asyncio.create_subprocess_exec(
        require(str(program)),
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out, err.decode(errors="replace")
