"""Command lines on which `--from -2h` says what it means."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

AGO = re.compile(r"-\d+[smhdw]\Z", re.ASCII)
TIMES = ("--from", "--to")


class AgoParser(argparse.ArgumentParser):
    """One that takes `--from -2h` for what it says: argparse would see an option -2."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As the class it is of, with `--from` and what follows it made one word."""
        return super().parse_known_args(None if args is None else _joined(args), namespace)


def _joined(words: Sequence[str]) -> list[str]:
    found: list[str] = []
    for word in words:
        if found and found[-1] in TIMES and AGO.match(word):
            found[-1] = f"{found[-1]}={word}"
        else:
            found.append(word)
    return found
