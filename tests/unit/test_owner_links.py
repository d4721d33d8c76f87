"""Links of owners: ours, of this incident, not a day old, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from iotcore.registry.owner_links import LASTS_MS, good, path, token

KEY, OTHER = b"k" * 32, b"o" * 32
INCIDENT = "F20261126-181500-A1B2C3"
MADE_MS = datetime(2026, 11, 26, 18, 15, tzinfo=UTC).timestamp() * 1000.0


def test_a_link_is_good_for_a_day_and_for_its_incident_only() -> None:
    made = token(KEY, INCIDENT)
    assert path(KEY, INCIDENT) == f"/owner/{INCIDENT}/{made}"
    assert len(made) == 22, "128 bits"
    assert good(KEY, INCIDENT, made, MADE_MS)
    assert good(KEY, INCIDENT, made, MADE_MS + LASTS_MS - 1.0)
    assert not good(KEY, INCIDENT, made, MADE_MS + LASTS_MS)
    assert not good(KEY, "F20261126-181500-A1B2C4", made, MADE_MS)
    assert not good(OTHER, INCIDENT, made, MADE_MS)


@pytest.mark.parametrize("shown", ["", "A" * 22, token(OTHER, INCIDENT), token(KEY, INCIDENT)[:-1], "é" * 22])
def test_what_is_guessed_is_not_good(shown: str) -> None:
    assert not good(KEY, INCIDENT, shown, MADE_MS)


@pytest.mark.parametrize("incident", ["", "F20261326-181500-A1B2C3", "F20261126-181500-a1b2c3", "../x"])
def test_a_name_that_is_no_incident_has_no_link(incident: str) -> None:
    assert not good(KEY, incident, token(KEY, incident), MADE_MS)
