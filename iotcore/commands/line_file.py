"""Line protocol in a file, plain or gzip by its name: one line for each reading, as InfluxDB's own tools write and read it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from iotcore.commands.whole_file import written_whole
from iotcore.errors import StartError

GZIP_LEVEL = 3  # zlib manual: 1 fastest … 9 smallest; 3 makes lines 8 times smaller at a fraction of the time of 6
MAX_LINE_BYTES = 4 * 1024 * 1024  # a panel of 20,000 points has half a megabyte

Write = Callable[[bytes], None]


@contextmanager
def line_file(path: Path) -> Iterator[Write]:
    """What writes a line into the file; it is there whole at the end."""
    with written_whole(path) as raw:
        if path.suffix != ".gz":
            yield lambda line: _write(raw, line)
            return
        # no name and no time within: the same lines make the same file
        with gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=0) as packed:
            yield lambda line: _write(cast("BinaryIO", packed), line)


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Every line with its number from 1; blank lines and comments are left out.

    Raises:
        StartError: when the file cannot be read, or is cut off.
    """
    try:
        with path.open("rb") as raw:
            file = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if path.suffix == ".gz" else raw
            number = 0
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                line = line.strip(b" \t\r\n")
                if line and not line.startswith(b"#"):
                    yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise StartError(f"{path} is damaged or cut off: {error}", "What was read before is imported; fetch it again.") from error
    except OSError as error:
        raise StartError(f"{path} cannot be read: {error.strerror or error}", "Name a file that is there.") from error


def _write(file: BinaryIO, line: bytes) -> None:
    file.write(line)
    file.write(b"\n")
