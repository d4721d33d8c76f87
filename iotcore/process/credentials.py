"""Secrets as systemd hands them over: files in $CREDENTIALS_DIRECTORY, each named like the variable that it stands for.

`LoadCredential=IOTCORE_STORE__TOKEN` in a unit is then as good as the variable, and shows in no process list.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from iotcore.errors import StartError

FOLDER_VARIABLE = "CREDENTIALS_DIRECTORY"  # systemd.exec(5), "Credentials"
PREFIX = "IOTCORE_"


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """`variables` and the credentials beside them; a credential wins, and its last line feed does not count.

    Raises:
        StartError: a credential cannot be read.
    """
    folder = variables.get(FOLDER_VARIABLE, "")
    if not folder:
        return dict(variables)
    try:
        files = sorted(path for path in Path(folder).iterdir() if path.name.startswith(PREFIX))
        return {**variables, **{path.name: path.read_text(encoding="utf-8").removesuffix("\n") for path in files}}
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"A credential in {folder} cannot be read: {error}", "Check LoadCredential= of the unit.") from error
