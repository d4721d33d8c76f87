"""Room on the disk: whether a database could not be opened for want of it, which passes, or for something that does not.

SQLite needs new pages for the files beside a database before it can read a single row of it. Of a full disk it says so plainly
only when a write fails; the files beside it end in "disk I/O error" or "unable to open database file", as a broken disk or a
wrong permission do. So the disk itself is asked.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iotcore.errors import StoreFull

OPENING_BYTES = 256 * 1024  # SQLite wants 32 KiB for -shm, and some pages for the log and for new tables; more than that
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def has_room(folder: Path) -> bool:
    """Whether as much as opening a database takes can be written in `folder`; True when something else is in the way."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(OPENING_BYTES))
            file.flush()
    except OSError as error:
        return error.errno not in NO_ROOM
    return True


def short_of_room(path: Path) -> bool:
    """Whether room is what a database at `path` lacks: it may be written, and the disk takes nothing."""
    try:
        if path.exists():
            path.open("r+b").close()
    except OSError:
        return False
    return not has_room(path.parent)


@contextmanager
def said(path: Path) -> Iterator[None]:
    """Turns the system's word for a full disk into ours.

    Raises:
        StoreFull: the disk has no room for the file.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise StoreFull(f"{path} cannot be made: no room on the disk ({error})") from error
