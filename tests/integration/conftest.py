"""What several integration tests start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import Postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def registry_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty registry, once as a file and once on a real server."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path / 'registry.db'}"
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.url(server.fresh())


@pytest.fixture(params=["sqlite", "postgres"])
def journal_place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """An empty journal, once as a file and once on a real server."""
    if request.param == "sqlite":
        return tmp_path / "journal.db"
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.url(server.fresh())
