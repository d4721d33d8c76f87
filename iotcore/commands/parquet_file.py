"""Readings in a Parquet file, one row for each value: what pandas, DuckDB, Spark and Arrow read. Needs pyarrow (extra `parquet`).

    time        device  model  class  premises  point  value   text    quality  test
    ns UTC      text    text   text   text      text   double  text    text     bool

`value` is the number (a bool is 0 or 1), `text` the text, both null when there was none; quality is good, uncertain or bad.
Row groups are bounded, so neither writing nor reading a large file needs much memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from iotcore.commands.whole_file import written_whole
from iotcore.errors import StartError
from iotcore.reading import Quality, Value
from iotcore.telemetry.stored import Stored, from_line, to_line

ROW_GROUP_ROWS = 65_536  # Apache Parquet documentation, "Configurations", advises large groups; these take about 10 MB to make
COLUMNS = ("time", "device", "model", "class", "premises", "point", "value", "text", "quality", "test")


@contextmanager
def parquet_file(path: Path) -> Iterator[Callable[[bytes], None]]:
    """What writes a line's values into the file; it is there whole at the end.

    Raises:
        StartError: without pyarrow, or when the file cannot be written.
    """
    pa, parquet = _library()
    word = pa.dictionary(pa.int32(), pa.string())  # many rows, few words
    types = (
        pa.timestamp("ns", "UTC"),
        word,
        word,
        word,
        word,
        word,
        pa.float64(),
        pa.string(),
        word,
        pa.bool_(),
    )
    schema = pa.schema(list(zip(COLUMNS, types, strict=True)))
    rows: list[tuple[object, ...]] = []
    with written_whole(path) as raw, parquet.ParquetWriter(raw, schema, compression="zstd") as writer:

        def flush() -> None:
            columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
            arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=ROW_GROUP_ROWS)
            rows.clear()

        def write(line: bytes) -> None:
            rows.extend(_rows(from_line(line)))
            if len(rows) >= ROW_GROUP_ROWS:
                flush()

        yield write
        flush()


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Every reading as a line, with the number of its first row from 1.

    Raises:
        StartError: without pyarrow, or when the file is no such table.
    """
    pa, parquet = _library()
    try:
        with parquet.ParquetFile(path) as file:
            missing = set(COLUMNS) - set(file.schema_arrow.names)
            if missing:
                raise StartError(f"{path} lacks {', '.join(sorted(missing))}", f"Its columns must be {', '.join(COLUMNS)}.")
            start = 1
            for (at_ns, device, model, kind, premises), rows in groupby(_read(pa, file), key=lambda row: row[:5]):
                found = list(rows)
                values = tuple(
                    Value(point, value if text is None else text, Quality(word)) for *_, point, value, text, word, _ in found
                )
                yield start, to_line(Stored(kind, device, model, premises, at_ns, values, any(row[9] for row in found)))
                start += len(found)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        raise StartError(
            f"{path} cannot be read as Parquet: {error}", "Name a file that `telemetry export` has written."
        ) from error


def _read(pa: Any, file: Any) -> Iterator[tuple[Any, ...]]:
    """Its rows, as tuples in the order of COLUMNS; the time in ns."""
    for batch in file.iter_batches(ROW_GROUP_ROWS, columns=list(COLUMNS)):
        times = batch.column("time").cast(pa.timestamp("ns", "UTC")).cast(pa.int64())
        yield from zip(times.to_pylist(), *(batch.column(name).to_pylist() for name in COLUMNS[1:]), strict=True)


def _rows(stored: Stored) -> Iterator[tuple[object, ...]]:
    identity = (stored.at_ns, stored.device, stored.model, stored.device_class, stored.premises)
    for value in stored.values:
        text = value.value if isinstance(value.value, str) else None
        number = None if text is not None or value.value is None else float(value.value)
        yield (*identity, value.point, number, text, value.quality.value, stored.test)


def _library() -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra, 170 MB: only who exports to Parquet has it
        from pyarrow import parquet  # noqa: PLC0415 - likewise
    except ImportError as error:
        raise StartError(
            "Parquet needs pyarrow, which is not installed", "pip install 'iotcore[parquet]', or use --format lp."
        ) from error
    return pa, parquet
