"""What a commit of one fire costs in the journal: reading, cause, alarm, incident, two notices; on SQLite and on PostgreSQL.

Turn about, so that both see the same machine. PostgreSQL is a private server on loopback, with fsync as servers have it.
`python -m benchmarks.journal [FIRES]` takes about a minute; its last line is one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from benchmarks.fire_phase import quantiles
from iotcore.clock import SystemClock
from iotcore.journal.journal import Journal
from iotcore.journal.records import Batch
from tests.support.fire import notice, raise_, reading
from tests.support.postgres import Postgres

FIRES = 2_000
ROUND = 100  # of each, turn about


def burn(journal: Journal, first: int, count: int) -> list[float]:
    """Commit so many fires, each of its own premises; the ms that each took."""
    waits = []
    for n in range(first, first + count):
        name = f"d{n}"
        batch = Batch(readings=(reading(name, smoke=0.4),), raises=(raise_(of=notice(name, f"p{n}")),))
        began_s = time.perf_counter()
        opened = journal.commit(batch).opened
        waits.append((time.perf_counter() - began_s) * 1000.0)
        assert len(opened) == 1
    return waits


def main() -> None:
    """Run it."""
    fires = int(sys.argv[1]) if len(sys.argv) > 1 else FIRES
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, Postgres(fsync=True) as server:
        places: dict[str, Path | str] = {"sqlite": Path(folder) / "journal.db", "postgres": server.url(server.fresh())}
        journals = {name: Journal(place, SystemClock(), ["arc", "cad"], "fire-1") for name, place in places.items()}
        waits: dict[str, list[float]] = {name: [] for name in journals}
        for first in range(0, fires, ROUND):
            for name, journal in journals.items():
                waits[name] += burn(journal, first, ROUND)
        for journal in journals.values():
            with closing(journal):
                pass
    print(json.dumps({"fires": fires, **{f"{name}_commit_ms": quantiles(ms) for name, ms in waits.items()}}))


if __name__ == "__main__":
    main()
