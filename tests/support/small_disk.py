"""A disk that is really small: a tmpfs in a mount namespace of its own, gone when the child that runs there ends."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

STEPS = (256 * 1024, 4096)  # the last is a page


async def on_small_disk(disk: Path, size_mb: int, module: str, folder: Path) -> Any:
    """Run `python -m module folder` where a file system of `size_mb` is mounted at `disk`; the JSON of its last line."""
    child = shlex.join([sys.executable, "-m", module, str(folder)])
    script = (
        f"mkdir -p {shlex.quote(str(disk))} && mount -t tmpfs -o size={size_mb}m none {shlex.quote(str(disk))} && exec {child}"
    )
    namespace = ["--mount"] if os.geteuid() == 0 else ["--mount", "--user", "--map-root-user"]
    process = await asyncio.create_subprocess_exec("unshare", *namespace, "sh", "-c", script, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return json.loads(out.splitlines()[-1])


class Filler:
    """A file that takes whatever the disk has left."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "filler"

    def fill(self) -> None:
        """To the last page; again, when some were given back."""
        with suppress(OSError), self._path.open("ab", buffering=0) as file:
            for size in STEPS:
                with suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

    def free(self) -> None:
        """Give it all back."""
        self._path.unlink(missing_ok=True)
