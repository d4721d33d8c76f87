"""The Mosquitto of this machine: where it is, of which release, and what of its own it brings along.

2.1 calls `acl_file`, `password_file` and `per_listener_settings` deprecated, and 3.0 takes them out: acl and passwords are
plugins there. A build of 2.1 without these plugins still takes the old form.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SBIN = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", "/opt/homebrew/opt/mosquitto/sbin")  # not on every user's PATH
LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib", "/opt/homebrew/opt/mosquitto/lib")
SESSIONS, ACLS, PASSWORDS = "mosquitto_dynamic_security.so", "mosquitto_acl_file.so", "mosquitto_password_file.so"
ASK_LIMIT_S = 5.0
Release = tuple[int, int]
OLD: Release = (2, 0)
PLUGINS_SINCE: Release = (2, 1)


@dataclass(frozen=True, slots=True)
class Form:
    """How a configuration is written. With `acls` (the plugins' files) in the form of 2.1, else in that of 2.0."""

    acls: Path | None = None
    passwords: Path | None = None
    sessions: Path | None = None  # the plugin that ends sessions; None: they cannot be ended

    @property
    def modern(self) -> bool:
        """Whether it is that of 2.1."""
        return self.acls is not None and self.passwords is not None


def find_mosquitto() -> Path | None:
    """The mosquitto program, also where only root's PATH leads."""
    found = shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *SBIN]))
    return Path(found) if found else None


def find_plugin(name: str, program: Path | None = None) -> Path | None:
    """A plugin of Mosquitto, first beside `program`: one of another build would not do. Some builds leave plugins out."""
    beside = [] if program is None else [program.parent.parent / folder for folder in ("lib", "lib64")]
    for library in [*beside, *map(Path, LIBRARIES)]:
        for path in (library / name, *sorted(library.glob(f"*-linux-gnu*/{name}"))):
            if path.exists():
                return path
    return None


@functools.cache
def release_of(program: Path) -> Release:
    """The first two numbers that the program says of itself; 2.0 when it says none."""
    try:
        asked = subprocess.run([program, "-h"], capture_output=True, text=True, timeout=ASK_LIMIT_S, check=False)  # noqa: S603 - ours
    except (OSError, subprocess.TimeoutExpired):
        return OLD
    found = re.search(r"mosquitto version (\d+)\.(\d+)", asked.stdout)
    return (int(found[1]), int(found[2])) if found else OLD


def form_here() -> Form:
    """What the installed Mosquitto takes."""
    program = find_mosquitto()
    if program is None:
        return Form()
    return form_for(release_of(program), program)


def form_for(release: Release, program: Path | None = None, plugins: Path | None = None) -> Form:
    """What `release` takes, with the plugins beside `program`, or in the folder `plugins` of the machine where it will run."""

    def where(name: str) -> Path | None:
        return plugins / name if plugins is not None else find_plugin(name, program)

    if release < PLUGINS_SINCE:
        return Form(sessions=where(SESSIONS))
    return Form(where(ACLS), where(PASSWORDS), where(SESSIONS))
