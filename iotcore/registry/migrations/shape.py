"""What a database's schema looks like: columns, keys, UNIQUE, indexes, references. For comparing, on SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient

from iotcore.registry.migrations.step import Step, spoken

Rows = list[Mapping[str, Any]]
TABLE = "migration"  # our own, no part of any step
# Each dialect: (columns, indexes, references), with the same names of columns
QUERIES = {
    "sqlite": (
        """SELECT m.name AS tab, c.name AS col, c.type AS type, c."notnull" = 0 AND c.pk = 0 AS empty, c.pk AS pk
           FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'""",
        """SELECT m.name AS tab, l.name AS idx, l."unique" AS uniq, l.partial AS part, i.name AS col
           FROM sqlite_master m, pragma_index_list(m.name) l, pragma_index_info(l.name) i
           WHERE m.type = 'table' AND l.origin <> 'pk' ORDER BY m.name, l.name, i.seqno""",
        """SELECT m.name AS tab, f."from" AS col, f."table" AS target, f.on_delete AS otherwise
           FROM sqlite_master m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table'""",
    ),
    "postgres": (
        """SELECT c.relname::text AS tab, a.attname::text AS col, format_type(a.atttypid, a.atttypmod) AS type,
                  NOT a.attnotnull AS empty,
                  COALESCE((SELECT array_position(i.indkey::int[], a.attnum::int) FROM pg_index i
                            WHERE i.indrelid = c.oid AND i.indisprimary) + 1, 0) AS pk
           FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
           WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped""",
        """SELECT c.relname::text AS tab, x.relname::text AS idx, i.indisunique AS uniq, i.indpred IS NOT NULL AS part,
                  a.attname::text AS col
           FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
           CROSS JOIN LATERAL unnest(i.indkey::int[]) WITH ORDINALITY AS k(attnum, place)
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
           WHERE c.relnamespace = current_schema()::regnamespace AND NOT i.indisprimary ORDER BY 1, 2, k.place""",
        """SELECT c.relname::text AS tab, a.attname::text AS col, t.relname::text AS target,
                  CASE r.confdeltype WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL'
                       ELSE 'NO ACTION' END AS otherwise
           FROM pg_constraint r JOIN pg_class c ON c.oid = r.conrelid JOIN pg_class t ON t.oid = r.confrelid
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(r.conkey)
           WHERE r.contype = 'f' AND c.relnamespace = current_schema()::regnamespace""",
    ),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """A table. Columns: type, may be empty; indexes: columns, unique, partial; references: column, table, on delete."""

    columns: Mapping[str, tuple[str, bool]]
    primary: tuple[str, ...]
    indexes: frozenset[tuple[tuple[str, ...], bool, bool]]
    references: frozenset[tuple[str, str, str]]


async def read(db: BaseDBAsyncClient) -> dict[str, Shape]:
    """The tables of a registry, by name."""
    return _shapes([await db.execute_query_dict(sql) for sql in QUERIES[db.capabilities.dialect]])


def meant(steps: Iterable[Step]) -> dict[str, Shape]:
    """The tables that these steps make, as SQLite has them: made in memory."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        for step in steps:
            for sql in spoken(step.forward, "sqlite"):
                connection.execute(sql)
        fetch: Callable[[str], Rows] = lambda sql: [dict(row) for row in connection.execute(sql)]  # noqa: E731
        return _shapes([fetch(sql) for sql in QUERIES["sqlite"]])


def differences(found: Mapping[str, Shape], wanted: Mapping[str, Shape]) -> list[str]:
    """What `found` lacks or has otherwise, types aside; tables and columns that it has besides do no harm."""
    said = []
    for name, shape in wanted.items():
        there = found.get(name)
        if there is None:
            said.append(f"no table {name}")
            continue
        said += [f"no column {name}.{column}" for column in shape.columns if column not in there.columns]
        said += [
            f"{name}.{column} may {'not ' if not may else ''}be empty"
            for column, (_, may) in there.columns.items()
            if column in shape.columns and shape.columns[column][1] != may
        ]
        said += [f"no index of {name} over {', '.join(one[0])}" for one in shape.indexes - there.indexes]
        said += [f"{name}.{one[0]} does not refer to {one[1]}" for one in shape.references - there.references]
        if there.primary != shape.primary:
            said.append(f"the key of {name} is {', '.join(there.primary) or 'missing'}")
    return said


def _shapes(found: list[Any]) -> dict[str, Shape]:
    columns, indexes, references = found
    shapes = {}
    for name in sorted({row["tab"] for row in columns} - {TABLE}):
        mine = [row for row in columns if row["tab"] == name]
        over: dict[str, list[Any]] = {}
        for row in indexes:
            if row["tab"] == name:
                over.setdefault(row["idx"], []).append(row)
        shapes[name] = Shape(
            {row["col"]: (str(row["type"]), bool(row["empty"])) for row in mine},
            tuple(row["col"] for row in sorted(mine, key=lambda row: int(row["pk"])) if row["pk"]),
            frozenset((tuple(r["col"] for r in rows), bool(rows[0]["uniq"]), bool(rows[0]["part"])) for rows in over.values()),
            frozenset((row["col"], row["target"], row["otherwise"]) for row in references if row["tab"] == name),
        )
    return shapes
