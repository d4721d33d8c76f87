"""What has to change on the lists, and whose session has to end: decided from the registry's word and the lists alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import BrokerHome
from iotcore.provision.ca import Anchor
from iotcore.provision.revoke import Entry, Reason, Step, can_wait, cuts, held, steps
from iotcore.registry.records import Certificate, Standing, State

HOLD, GONE, LOST, REPLACED = (
    Reason.certificate_hold,
    Reason.cessation_of_operation,
    Reason.key_compromise,
    Reason.superseded,
)
HOME = BrokerHome(BrokerName.FIRE, Path("broker"), 8883)


def standing(state: State, *, revoked: bool = False, anchor: str = "fire", replaced: bool = False) -> Standing:
    ends = {"revoked_ms": 2_000 if revoked else None, "superseded_ms": 2_000 if replaced else None}
    return Standing(Certificate("a1", "d1", anchor, 9_000, "", 1_000, **ends), state)  # type: ignore[arg-type]


def on_list(reason: Reason | None, anchor: Anchor = Anchor.FIRE) -> dict[str, Entry]:
    return {} if reason is None else {"a1": Entry(anchor, reason, 1_700_000_000)}


@pytest.mark.parametrize(
    ("state", "revoked", "before", "change"),
    [
        ("active", False, None, None),
        ("suspended", False, None, HOLD),
        ("suspended", False, HOLD, None),
        ("active", False, HOLD, "lift"),
        ("retired", False, HOLD, GONE),
        ("retired", False, GONE, None),
        ("active", True, None, LOST),
        ("active", True, HOLD, LOST),
        ("suspended", True, None, LOST),
        ("active", False, LOST, None),  # a list that says more than the registry: what is final stays
        ("active", True, REPLACED, None),
    ],
)
def test_a_list_is_changed_only_where_it_must(state: State, revoked: bool, before: Reason | None, change: object) -> None:  # noqa: FBT001
    expected = [] if change is None else [Step(Anchor.FIRE, "a1", None if change == "lift" else change)]  # type: ignore[arg-type]
    assert steps([standing(state, revoked=revoked)], on_list(before)) == expected


@pytest.mark.parametrize(
    ("state", "revoked", "before", "change"),
    [
        ("active", False, None, REPLACED),
        ("active", False, REPLACED, None),
        ("suspended", False, None, REPLACED),  # final, which a hold is not
        ("suspended", False, HOLD, REPLACED),
        ("active", False, HOLD, REPLACED),
        ("retired", False, None, GONE),
        ("active", True, None, LOST),
    ],
)
def test_what_a_newer_one_has_replaced_is_superseded(
    state: State,
    revoked: bool,  # noqa: FBT001
    before: Reason | None,
    change: Reason | None,
) -> None:
    expected = [] if change is None else [Step(Anchor.FIRE, "a1", change)]
    assert steps([standing(state, revoked=revoked, replaced=True)], on_list(before)) == expected


def test_only_what_puts_nobody_out_can_wait() -> None:
    assert can_wait([Step(Anchor.FIRE, "a1", REPLACED)])
    assert not can_wait([Step(Anchor.FIRE, "a1", REPLACED), Step(Anchor.FIRE, "a2", HOLD)])
    assert not can_wait([Step(Anchor.FIRE, "a1", None)])


def test_a_hold_of_a_certificate_that_the_registry_does_not_know_is_asked_for_and_not_lifted() -> None:
    assert held({**on_list(HOLD), "a2": Entry(Anchor.FIRE, LOST, 1)}) == {"a1"}
    assert steps([], on_list(HOLD)) == []


def test_a_broker_cuts_whom_it_could_have_let_in_and_never_for_a_certificate_that_was_replaced() -> None:
    assert list(cuts([standing("suspended")], on_list(HOLD), HOME).values()) == ["d1"]
    assert list(cuts([standing("active", revoked=True, anchor="service")], on_list(LOST, Anchor.SERVICE), HOME).values()) == [
        "d1"
    ]
    assert cuts([standing("suspended", anchor="field")], on_list(HOLD, Anchor.FIELD), HOME) == {}
    assert cuts([standing("active", revoked=True)], on_list(REPLACED), HOME) == {}
    assert cuts([standing("active")], on_list(None), HOME) == {}


def test_a_second_suspension_is_another_cut() -> None:
    first, second = on_list(HOLD), {"a1": Entry(Anchor.FIRE, HOLD, 1_700_000_060)}
    assert cuts([standing("suspended")], first, HOME).keys() != cuts([standing("suspended")], second, HOME).keys()
