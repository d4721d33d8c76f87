"""SoftHSM: a PKCS#11 module whose tokens are folders of a test's. A token is "taken away" by renaming its folder."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from iotcore.provision.issuers import Module
from tests.support.services import require

PIN = "4711-0815"
OFFICER = "0000-9999"


@dataclass(frozen=True, slots=True)
class SoftHsm:
    """The module, and the folder of its tokens."""

    library: Path
    tokens: Path

    def token(self, label: str) -> Module:
        """A new token."""
        command = ["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", OFFICER]
        subprocess.run([require("softhsm2-util"), *command], check=True, capture_output=True)
        return Module(str(self.library), label)

    @contextmanager
    def taken_away(self) -> Iterator[None]:
        """All its tokens are gone."""
        away = self.tokens.with_name("away")
        self.tokens.rename(away)
        try:
            yield
        finally:
            away.rename(self.tokens)


def softhsm(folder: Path) -> SoftHsm:
    """A module with no token yet. It reads where its tokens are from $SOFTHSM2_CONF, when it begins."""
    tokens, file = folder / "tokens", folder / "softhsm2.conf"
    tokens.mkdir()
    file.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n", encoding="ascii")
    os.environ["SOFTHSM2_CONF"] = str(file)
    return SoftHsm(require("libsofthsm2.so"), tokens)
