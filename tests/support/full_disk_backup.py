"""A child of `test_backup`: makes backups where the disk is too small for them. Prints one JSON object."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from iotcore.clock import ManualClock
from iotcore.errors import StoreFull
from tests.support.backed_up import Kept

LARGE_BYTES = 8_000_000


def main(disk: Path) -> None:
    kept = Kept(disk.parent / "platform", ManualClock())
    kept.root.mkdir()
    kept.begin()
    kept.burn(1)
    (kept.data / "files").mkdir()
    (kept.data / "files" / "plan.pdf").write_bytes(os.urandom(LARGE_BYTES))
    said = {}
    for name, more in (("archive", {"name": "../disk/b.age"}), ("staging", {"staging": disk})):
        try:
            kept.make(**more)
        except StoreFull as error:
            said[name] = str(error)
    print(json.dumps({**said, "left": sorted(str(path.relative_to(disk)) for path in disk.rglob("*") if path.is_file())}))  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    main(Path(sys.argv[1]))
