"""A quarter of the simulated runs; a file each, so that the workers of a test run share them."""

import pytest

from tests.simulated.runs import broken


@pytest.mark.timeout(600)
def test_every_fire_is_one_incident_delivered_in_time_whatever_breaks() -> None:
    assert broken(range(250)) == {}
