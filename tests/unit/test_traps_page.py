"""The table of traps names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "access.md"
FOLDER = Path(__file__).parents[1] / "integration"
FILES = {
    "acl": "test_broker_acl.py",
    "traps": "test_broker_traps.py",
    "alarms": "test_broker_alarms.py",
    "revocation": "test_revocation.py",
    "password listener": "test_password_listener.py",
}


def test_every_trap_names_a_test_that_is_there() -> None:
    rows = re.findall(r"\| ([a-z ]+): `(test_\w+)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) >= 17
    for file, name in rows:
        assert f"async def {name}(" in (FOLDER / FILES[file]).read_text(encoding="utf-8"), name


def test_every_test_of_a_trap_is_in_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    elsewhere = {"test_a_connection_that_is_only_opened_does_not_keep_others_out", "test_what_the_lane_may_not_hear_twice"}
    there = set(re.findall(r"^async def (test_\w+)", (FOLDER / FILES["traps"]).read_text(encoding="utf-8"), re.MULTILINE))
    assert {name for name in there - elsewhere if f"`{name}`" not in page} == set()
