"""What somebody who has a registry's password can do: SQL by hand, on SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import asyncpg

SQLITE = "sqlite://"


async def sql(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements in one transaction; the rows of the last one."""
    rows: list[tuple[Any, ...]] = []
    if url.startswith(SQLITE):
        with closing(sqlite3.connect(url.removeprefix(SQLITE))) as connection, connection:
            for statement in statements:
                rows = connection.execute(statement).fetchall()
        return rows
    server = await asyncpg.connect(url)
    try:
        async with server.transaction():
            await server.execute("CREATE SCHEMA IF NOT EXISTS registry")
            await server.execute("SET search_path TO registry")
            for statement in statements:
                rows = [tuple(row) for row in await server.fetch(statement)]
    finally:
        await server.close()
    return rows
