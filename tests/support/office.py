"""The command line of a data folder, run in this process as an operator runs it."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from iotcore import cli
from tests.support.pki import PASSPHRASE


@dataclass
class Office:
    """A data folder with its settings, and the command line in this process."""

    folder: Path
    patch: pytest.MonkeyPatch
    output: pytest.CaptureFixture[str]

    def run(self, *words: str, token: str = "", stdin: str = "") -> tuple[int, str]:
        """Exit code, and what was said."""
        with self.patch.context() as patch:
            patch.setenv("IOTCORE_CA_PASSPHRASE", PASSPHRASE.decode())
            patch.setattr(sys, "stdin", io.StringIO(stdin))
            if token:
                patch.setenv("IOTCORE_API_TOKEN", token)
            with pytest.raises(SystemExit) as ended:
                cli.main([*words, "--config", str(self.folder / "iotcore.toml")])
        said = self.output.readouterr().out.strip()
        code = ended.value.code
        return (code, said) if isinstance(code, int) else (1, f"{said}{code}")

    def done(self, *words: str, token: str = "", stdin: str = "") -> str:
        code, said = self.run(*words, token=token, stdin=stdin)
        assert code == 0, said
        return said

    def refused(self, *words: str, token: str = "") -> str:
        code, said = self.run(*words, token=token)
        assert code == 1, said
        return said

    def rows(self, noun: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.done(noun, "list", "-o", "json"))
        return found

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.done("audit", "show", "-o", "json").splitlines()]
