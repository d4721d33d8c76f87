"""A response plan waits with a fire, and meanwhile the journal falls silent: nobody can acknowledge, and nothing may be lost."""

import pytest

from tests.simulated.play import play
from tests.simulated.runs import quiet
from tests.simulated.script import OUT, T1_S, Burn, Script, Span

SEEN_S = 11.0  # later than every device's first report
SILENT_S = 20.0  # when the journal falls silent, within T1
WITHIN_S = 1.5


def script(kind: str, *burns: Burn) -> Script:
    return Script(
        seed=2,
        replicas=2,
        premises={"p0": ["p0-sd0", "p0-cp0", "p0-sd1"]},
        burns=[Burn("p0-sd0", SEEN_S, SEEN_S + 7.0), *burns],
        spans=[Span("journal", kind, SILENT_S, SILENT_S + 25.0)],
        delayed={"p0"},
        clock_steps=[[], []],
    )


def alarms(history: list[str]) -> list[tuple[float, str]]:
    words = (line.split() for line in history if " has alarm " in line)
    return [(float(at_s), incident) for at_s, _, _, _, incident in words]


@pytest.mark.parametrize("kind", OUT)
def test_t1_ends_without_the_journal_and_the_incident_keeps_its_name(kind: str) -> None:
    with quiet():
        outcome = play(script(kind))
    assert outcome.broken == []
    told = alarms(outcome.history)
    assert SEEN_S + T1_S <= told[0][0] <= SEEN_S + T1_S + WITHIN_S
    assert len({incident for _, incident in told}) == outcome.incidents == 1


@pytest.mark.parametrize("point", ["p0-cp0", "p0-sd1"])
def test_a_call_point_or_a_second_detector_does_not_wait_for_the_journal(point: str) -> None:
    with quiet():
        outcome = play(script("refuses", Burn(point, SILENT_S + 1.0, SILENT_S + 3.0)))
    assert outcome.broken == []
    told = alarms(outcome.history)
    assert SILENT_S + 1.0 <= told[0][0] <= SILENT_S + 1.0 + WITHIN_S
    assert len({incident for _, incident in told}) == outcome.incidents == 1
