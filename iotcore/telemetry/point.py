"""Points of the platform's own series (incidents, drills, coverage), beside the readings of devices.

In InfluxDB a point has a measurement, tags and fields like any other. The embedded store knows no tags: there it stands under a
name that no device can have, `~` and the words that tell its series apart, such as `~incident/p1/opened`. A point with the same
series and time replaces the one before, so whoever writes one twice has written it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from iotcore.journal.progress import Row
from iotcore.telemetry.embedded import ROW_FORMAT
from iotcore.telemetry.embedded import Row as StoredRow
from iotcore.telemetry.spool import Spool

_NAME = str.maketrans({",": r"\,", " ": r"\ ", "=": r"\=", "\n": r"\ ", "\r": r"\ ", "\t": r"\ "})
_TEXT = str.maketrans({'"': r"\"", "\\": r"\\", "\n": " ", "\r": " "})


@dataclass(frozen=True, slots=True)
class Point:
    """`series` are the words by which the embedded store tells series of a measurement apart; an empty tag is left out."""

    measurement: str
    series: tuple[str, ...]
    tags: Mapping[str, str]
    fields: Mapping[str, float | str]
    at_ns: int

    @property
    def device(self) -> str:
        """Under which name the embedded store has it."""
        return "~" + "/".join((self.measurement, *self.series))


def as_line(point: Point) -> bytes:
    """In line protocol. Numbers are floats always, as in `line`."""
    tags = "".join(f",{key}={text.rstrip(chr(92)).translate(_NAME) or '_'}" for key, text in point.tags.items() if text)
    fields = ",".join(
        f'{name}="{value.translate(_TEXT)}"' if isinstance(value, str) else f"{name}={float(value)!r}"
        for name, value in point.fields.items()
    )
    return f"{point.measurement}{tags} {fields} {point.at_ns}".encode(errors="replace")


def as_row(point: Point) -> bytes:
    """As the embedded store keeps a reading."""
    values: list[tuple[str, float | str | None, int]] = [
        (name, value if isinstance(value, str) else float(value), 0) for name, value in point.fields.items()
    ]
    return msgspec.json.encode(StoredRow(point.device, point.at_ns, test=False, values=values))


@dataclass(frozen=True, slots=True)
class PlatformSeries:
    """Where points go: into the spool, in the record format of its store; `wake` tells whoever drains it. `cell` is a tag."""

    spool: Spool
    store_format: str
    wake: Callable[[], None]
    cell: str = ""

    async def commit(self, points: Iterable[Point], progress: Sequence[Row] = ()) -> None:
        """Points and progress, durable in one transaction.

        Raises:
            StoreError: nothing of it happened.
        """
        written = as_row if self.store_format == ROW_FORMAT else as_line
        await self.spool.commit([written(point) for point in points], progress)
        self.wake()
