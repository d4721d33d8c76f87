"""What a process did, from strace's log: bytes that came and went on its connections, and files that it had synced, in order.

Moments are line numbers of the log. strace prints a call's entry before the kernel runs it and its result after that, and stops
every thread meanwhile, so "the result of the sync stands above the entry of the send" is proof.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.services import require

READS, WRITES, SYNCS = ("read", "recvfrom", "recvmsg"), ("write", "writev", "sendto", "sendmsg"), ("fdatasync", "fsync")
_CALL = re.compile(r"^(\d+) +(?:(\w+)\((.*)|<\.\.\. (\w+) resumed>(.*))$")
_WHOSE = re.compile(r"^\d+<((?:[^>]|(?<=-)>)*)>")  # a connection is named "TCP:[127.0.0.1:1->127.0.0.1:2]"
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_NAME = re.compile(r"(?:\\x[0-9a-f]{2})+")
_RESULT = re.compile(r"\) += (-?\d+)")


class Call(NamedTuple):
    """A call that succeeded: on which file or connection, the lines of its entry and its result, and the bytes that it moved."""

    name: str
    whose: str
    entry: int
    result: int
    content: bytes


def command(log: Path) -> list[str]:
    """What to put before the command of the process that is to be watched; `log` is then written."""
    calls = ",".join((*READS, *WRITES, *SYNCS))
    options = ["-f", "--seccomp-bpf", "-qq", "-yy", "-xx", "-s", "1000000", "-e", f"trace={calls}", "-e", "signal=none"]
    return [str(require("strace")), *options, "-o", str(log)]


def calls(lines: Iterable[str]) -> Iterator[Call]:
    """Syncs, and calls on connections, in the order of their results; a call that never returned is left out."""
    begun: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        found = _CALL.match(line)
        if found is None:
            continue
        thread, name, rest, resumed, more = found.groups()
        entry = number
        if resumed is not None:
            entry, rest = begun.pop(thread, (number, ""))
            name, rest = resumed, rest + more
        elif rest.endswith("<unfinished ...>"):
            begun[thread] = (number, rest.removesuffix("<unfinished ...>"))
            continue
        whose, result = _WHOSE.match(rest), _RESULT.search(rest)
        if whose is None or result is None or int(result.group(1)) < 0:
            continue
        if name not in SYNCS and not whose.group(1).startswith("TCP"):  # files read; there is no end of them
            continue
        moved = bytes.fromhex("".join(_TEXT.findall(rest)).replace("\\x", "")) if name not in SYNCS else b""
        yield Call(name, _path(whose.group(1)), entry, number, moved[: int(result.group(1))])


def _path(whose: str) -> str:
    """A file's name; -xx prints that in hexadecimal too."""
    found = _NAME.match(whose)
    return bytes.fromhex(found.group(0).replace("\\x", "")).decode() if found else whose


def synced_between(made: Sequence[Call], file: str, after: int, before: int) -> bool:
    """Whether a sync of a file of this name began after line `after` and was done before line `before`."""
    return any(one.whose.endswith(file) and one.name in SYNCS and one.entry > after and one.result < before for one in made)
