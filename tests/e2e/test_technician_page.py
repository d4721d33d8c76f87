"""The page for technicians does what it says: its commands run, in their order, against the units that it starts itself."""

from __future__ import annotations

import re
import shlex
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from iotcore.specs.load import shipped_folder
from tests.support.ports import free_port
from tests.support.technician import said, served
from tests.unit.test_docs import DOCS, blocks

PAGE = DOCS / "technician.md"
PORTS = ("5020", "5021")


@pytest.mark.timeout(300)
async def test_every_command_of_the_page_for_technicians_runs(tmp_path: Path) -> None:
    ports = {port: str(free_port()) for port in PORTS}

    def here(text: str) -> str:
        return re.sub(r"502[01]", lambda found: ports[found[0]], text).replace("FOLDER", str(shipped_folder()))

    for language in ("toml", "yaml"):
        for name, content in blocks(PAGE, language):
            (tmp_path / name).write_text(here(content))
    lines = [here(line) for words, block in blocks(PAGE, "sh") if words == "run" for line in block.splitlines()]
    ended = []
    async with AsyncExitStack() as units:
        for line in lines:
            _, *words = shlex.split(line)
            if words[:2] == ["modbus", "serve"]:
                await units.enter_async_context(served(*words[2:], cwd=tmp_path))
            else:
                ended.append((line, await said(*words, cwd=tmp_path)))
    assert [(line, how.code, how.err) for line, how in ended if how.code] == []
    assert len(ended) >= 10
    out = "\n".join(how.out for _, how in ended)
    assert "nothing was sent" in out  # the second write with one id
    assert "left out  inputs.modbus[0].holding_registers[1]: Half" in out
