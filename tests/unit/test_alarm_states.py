"""The state of an alarm, as a table: every combination that is kept has one name."""

from __future__ import annotations

import pytest

from iotcore.journal.states import Kept, State, state_of


@pytest.mark.parametrize(
    ("state", "cleared", "acknowledged", "shelved", "fire", "other"),
    [
        ("active", False, False, False, State.UNACKNOWLEDGED, State.UNACKNOWLEDGED),
        ("active", False, True, False, State.ACKNOWLEDGED, State.ACKNOWLEDGED),
        ("active", True, False, False, State.RETURNED, State.RETURNED),
        ("active", True, True, False, State.LATCHED, State.LATCHED),
        ("active", False, False, True, State.UNACKNOWLEDGED, State.SHELVED),  # a fire is never shelved
        ("active", True, True, True, State.LATCHED, State.SHELVED),
        ("disabled", False, False, False, State.DISABLED, State.DISABLED),
        ("disabled", False, False, True, State.DISABLED, State.DISABLED),
        ("ended", True, False, False, State.NORMAL, State.NORMAL),
        ("ended", True, False, True, State.NORMAL, State.NORMAL),
        ("reset", False, True, False, State.NORMAL, State.NORMAL),
        ("test", False, False, False, State.NORMAL, State.NORMAL),
        ("historical", False, False, False, State.NORMAL, State.NORMAL),
        ("repeat", False, False, False, State.NORMAL, State.NORMAL),
    ],
)
def test_what_an_operator_sees(state: str, cleared: bool, acknowledged: bool, shelved: bool, fire: State, other: State) -> None:  # noqa: FBT001, PLR0917
    assert state_of(Kept(state, "alarm", cleared, acknowledged), shelved=shelved) is fire
    for severity in ("pre-alarm", "supervisory", "trouble", "advisory"):
        assert state_of(Kept(state, severity, cleared, acknowledged), shelved=shelved) is other
