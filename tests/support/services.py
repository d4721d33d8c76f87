"""The real programs that tests run against: found, also where only root's path leads, or said to be missing by their package.

With CI set a missing program fails its tests; elsewhere they are skipped. `.ci/services` installs all of them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

PACKAGES = {  # program → Debian package; the same list as in .ci/services
    "age": "age",
    "chromium": "chromium",
    "curl": "curl",
    "gcc": "build-essential",
    "glewlwyd": "glewlwyd",
    "influxd": "influxdb",
    "initdb": "postgresql",
    "libsofthsm2.so": "softhsm2",
    "mbpoll": "mbpoll",
    "modbus.h": "libmodbus-dev",
    "mosquitto": "mosquitto",
    "mosquitto_sub": "mosquitto-clients",
    "openssl": "openssl",
    "pdftoppm": "poppler-utils",
    "pki": "strongswan-pki",
    "softhsm2-util": "softhsm2",
    "strace": "strace",
    "victoria-metrics": "victoria-metrics",
    "xmlsec1": "xmlsec1",
    "zbarimg": "zbar-tools",
}
FILES = {
    "libsofthsm2.so": Path("/usr/lib/softhsm/libsofthsm2.so"),
    "modbus.h": Path("/usr/include/modbus/modbus.h"),
}  # what is no program
OTHER_NAMES = {"chromium": ("chromium-browser", "google-chrome")}
BESIDE = {
    "createdb": "initdb",
    "pdfsig": "pdftoppm",
    "pg_isready": "initdb",
    "postgres": "initdb",
}  # come with another program's package
FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin", "/opt/homebrew/sbin")
POSTGRES_FOLDERS = "/usr/lib/postgresql"


def find(program: str) -> Path | None:
    """Where `program` is. Of several PostgreSQL the newest wins, so that its programs fit each other."""
    if program in FILES:
        return FILES[program] if FILES[program].exists() else None
    versions = sorted(Path(POSTGRES_FOLDERS).glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    path = os.pathsep.join([*map(str, versions), os.environ.get("PATH", os.defpath), *FOLDERS])
    for name in (program, *OTHER_NAMES.get(program, ())):
        if found := shutil.which(name, path=path):
            return Path(found)
    return None


def require(program: str) -> Path:
    """Where `program` is; without it the test is skipped, or with CI set fails."""
    return find(program) or _missing(program)


def _missing(program: str) -> NoReturn:
    package = PACKAGES[BESIDE.get(program, program)]
    said = f"{program} is not installed: apt-get install {package} (.ci/services does it)"
    if os.environ.get("CI"):
        pytest.fail(said, pytrace=False)
    pytest.skip(said)
