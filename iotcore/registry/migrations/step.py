"""What a step of the registry's schema is: SQL both ways, written once for both databases where they agree.

    STEP = Step(7, "tags", forward=("CREATE TABLE tag (id {serial}, ok {bool} NOT NULL)",), backward=("DROP TABLE tag",))

`{serial}`, `{float}` and `{bool}` stand for what a database calls them; `sqlite(…)` and `postgres(…)` are for one of them only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

WORDS = {
    "sqlite": {"{serial}": "INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL", "{float}": "REAL", "{bool}": "INT"},
    "postgres": {"{serial}": "BIGSERIAL NOT NULL PRIMARY KEY", "{float}": "DOUBLE PRECISION", "{bool}": "BOOL"},
}


class Only(NamedTuple):
    """A statement for one kind of database."""

    dialect: str
    sql: str


Statement = str | Only


class Loss(NamedTuple):
    """What the way back would lose: `what` in a person's words, `counted` a query for one number."""

    what: str
    counted: str


@dataclass(frozen=True, slots=True)
class Step:
    """One change of the schema. Numbers are given out in advance; a step that is not there yet may come in between later."""

    number: int
    name: str
    forward: tuple[Statement, ...]
    backward: tuple[Statement, ...]
    losses: tuple[Loss, ...] = ()


def sqlite(*statements: str) -> tuple[Only, ...]:
    """Statements for SQLite only."""
    return tuple(Only("sqlite", one) for one in statements)


def postgres(*statements: str) -> tuple[Only, ...]:
    """Statements for PostgreSQL only."""
    return tuple(Only("postgres", one) for one in statements)


def rebuilt(table: str, definition: str, columns: str) -> tuple[Only, ...]:
    """Make a table of SQLite anew with another definition and keep these columns: for what its ALTER TABLE cannot do.

    Indexes that are not part of the definition go with the old table: make them again after it.
    """
    return sqlite(
        f'CREATE TABLE "new_{table}" ({definition})',
        f'INSERT INTO "new_{table}" ({columns}) SELECT {columns} FROM "{table}"',  # noqa: S608 a step's own words
        f'DROP TABLE "{table}"',
        f'ALTER TABLE "new_{table}" RENAME TO "{table}"',
    )


def spoken(statements: tuple[Statement, ...], dialect: str) -> list[str]:
    """The statements as one kind of database takes them."""
    found = [one if isinstance(one, str) else one.sql for one in statements if isinstance(one, str) or one.dialect == dialect]
    return [_words(one, dialect) for one in found]


def _words(sql: str, dialect: str) -> str:
    for word, meant in WORDS[dialect].items():
        sql = sql.replace(word, meant)
    return sql
