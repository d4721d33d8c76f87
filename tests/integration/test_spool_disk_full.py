"""A disk that is really full: a small tmpfs in a mount namespace of its own, gone when the child ends."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from pathlib import Path

DISK_MB = 40


async def test_a_full_disk_refuses_lines_but_can_be_drained_and_then_takes_lines_again(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    child = shlex.join([sys.executable, "-m", "tests.support.full_disk", str(disk)])
    script = f"mount -t tmpfs -o size={DISK_MB}m none {shlex.quote(str(disk))} && exec {child}"
    namespace = ["--mount"] if os.geteuid() == 0 else ["--mount", "--user", "--map-root-user"]
    process = await asyncio.create_subprocess_exec("unshare", *namespace, "sh", "-c", script, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    result = json.loads(out)
    assert result["stored"] > 500
    assert result["drained"] == result["stored"]
    assert result["again"] > 0.9 * result["stored"]
