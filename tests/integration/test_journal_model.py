"""A stateful model of the journal: two processes on one file, and everything that may happen to them, in any order.

A control plants what the model is there to find: an incident that is not unique.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from iotcore.journal import raising
from iotcore.journal.journal import Journal
from tests.support.journal_model import JournalModel

SHORT = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize=True,
    report_multiple_bugs=False,
    phases=(Phase.generate,),  # a control need not find the shortest way to its bug
)
LONG = settings(SHORT, max_examples=2_000, stateful_step_count=60, derandomize=False, phases=(Phase.generate, Phase.shrink))


def test_the_journal_and_its_model_come_to_the_same() -> None:
    run_state_machine_as_test(JournalModel, settings=SHORT)


@pytest.mark.soak
def test_the_journal_and_its_model_come_to_the_same_for_a_long_time() -> None:
    run_state_machine_as_test(JournalModel, settings=LONG)


class NotUnique(JournalModel):
    """Planted: the index that keeps one open incident a premises is gone, and whoever raises does not look for it."""

    def make(self, owner: str) -> Journal:
        journal = super().make(owner)
        journal.connection.execute("DROP INDEX IF EXISTS one_open_incident")
        return journal


def test_the_model_finds_an_incident_that_is_not_unique(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raising.Raising, "_joined", lambda *_: "")
    with pytest.raises(AssertionError):
        run_state_machine_as_test(NotUnique, settings=SHORT)


def test_the_model_finds_an_episode_that_is_opened_again_by_what_was_said_before_its_reset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(raising.Raising, "_closed", lambda *_: "")
    with pytest.raises(AssertionError):
        run_state_machine_as_test(JournalModel, settings=SHORT)
