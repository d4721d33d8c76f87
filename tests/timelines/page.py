"""The page of scenarios: `python -m tests.timelines.page > docs/scenarios.md`."""

from __future__ import annotations

import sys

from tests.timelines.notation import Row
from tests.timelines.scenarios import REAL, SCENARIOS, VIRTUAL

HEAD = """\
# Scenarios that every release must pass

Each is played by `make test`, and fails it when anything in bold is not seen in its time or is seen twice, and when a
receiver is told what stands in no row. Times are seconds. A row says what is done, and what must be seen by when.

**virtual** ([test_scenarios.py](../tests/timelines/test_scenarios.py)): the fire process's real lane, rules, journal,
emergency log, dispatch and DC-09 channels, put together as in life, on a clock that jumps. At the end of the wire stands
pysiaalarm, which shares nothing with us, or a hostile receiver of our own. `kill -9` and SIGSTOP come at the worst moment.

**real** ([test_real_scenarios.py](../tests/timelines/test_real_scenarios.py)): a real service (Modbus unit, Mosquitto,
PostgreSQL, full disk, console), and pysiaalarm on a real socket; times have room for a busy machine.

Planted bugs (an alarm that is sent twice, or to nobody; a fire that is not judged; an alternate that is not told) fail
their rows.

"""


def page() -> str:
    """The page as it should be."""
    lines = ["| | Timeline | What is done, and what must be seen |", "|---|---|---|"]
    for number, sentence in SCENARIOS.items():
        lines.append(f"| **{number}** | **{sentence}** | |")
        lines += [_line(row) for row in (*VIRTUAL, *REAL) if row.number == number]
    return HEAD + "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    steps = list(dict.fromkeys(str(step) for step in row.steps))
    if len(steps) > MOST:
        steps = [*steps[:SHOWN], f"… and so for all {len(steps) - SHOWN + 1}"]
    where = "real" if row in REAL else "virtual"
    return f"| {where} | {row.name} | {'; '.join(steps)} |"


MOST, SHOWN = 30, 3

if __name__ == "__main__":
    sys.stdout.write(page())
