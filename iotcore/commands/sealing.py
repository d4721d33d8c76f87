"""`iotcore secret`: what it does. Nothing here prints a secret; the audit holds names alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from iotcore.commands import office
from iotcore.dispatch.sealed import Sealed
from iotcore.errors import StartError
from iotcore.process import home
from iotcore.process.credentials import environment
from iotcore.settings import Settings
from iotcore.settings_receivers import SECRET


def read(file: Path) -> str:
    """A secret from a file.

    Raises:
        StartError: it cannot be read, or is no text.
    """
    try:
        return file.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise StartError(f"{file} cannot be read: {said}", "Name a file that holds the secret alone.") from error


async def put(settings: Settings, name: str, secret: str, by: str) -> None:
    """Seal a secret under a name; the fire process reads it at its next start."""
    home.check_folder(settings.folder)
    sealed = Sealed(settings.folder, environment(os.environ))
    known = name in sealed.names()
    sealed.set(name, secret)
    async with office.opened(settings) as registry:
        await registry.note(by, "secret.set", name, "another in its place" if known else "")


def listed(settings: Settings) -> list[dict[str, Any]]:
    """Names of secrets, and the receivers whose settings name them."""
    names = set(Sealed(settings.folder, environment(os.environ)).names())
    return [{"name": name, "used_by": used_by(settings, name)} for name in sorted(names)]


async def remove(settings: Settings, name: str, by: str) -> None:
    """Forget a secret.

    Raises:
        StartError: there is none of that name, or a receiver needs it.
    """
    if needed := used_by(settings, name):
        raise StartError(f"{', '.join(needed)} cannot do without the secret {name!r}", "Take it out of the settings first.")
    if not Sealed(settings.folder, environment(os.environ)).remove(name):
        raise StartError(f"There is no secret {name!r}", "See: iotcore secret list")
    async with office.opened(settings) as registry:
        await registry.note(by, "secret.remove", name, "")


def used_by(settings: Settings, name: str) -> list[str]:
    """The receivers whose settings name a secret."""
    wanted = f"{SECRET}{name}"
    return [
        receiver.name
        for receiver in settings.receivers
        if any(wanted == one for field in receiver.__struct_fields__ for one in _texts(getattr(receiver, field)))
    ]


def _texts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else [value]
