"""The access table: topic matching as the standard has it, the least that services need, and a page that is current."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.provision.acl import (
    REPLICAS,
    ROLES,
    Access,
    BrokerName,
    access_page,
    acl_file,
    allowed,
    matches,
    may_subscribe,
)
from iotcore.wire.topics import DEVICE_NAME, DOMAINS

PAGE = Path(__file__).parents[2] / "docs" / "access.md"
FIRE, FIELD = BrokerName.FIRE, BrokerName.FIELD
LEVELS = st.sampled_from(["a", "b", "", "$SYS", "x y"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=5).map("/".join)
FILTERS = st.tuples(st.lists(LEVELS | st.just("+"), min_size=1, max_size=4), st.sampled_from(["", "/#"])).map(
    lambda parts: "/".join(parts[0]) + parts[1]
)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [  # the examples of MQTT 3.1.1, 4.7.1 and 4.7.2
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("#", "sport", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/broker", False),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS/broker", True),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
    ],
)
def test_filters_match_as_the_standard_says(topic_filter: str, topic: str, *, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected


@given(FILTERS, TOPICS)
def test_what_may_be_subscribed_never_reaches_beyond_what_may_be_read(wanted: str, topic: str) -> None:
    for role in ROLES:
        user = role.names()[0]
        for grant in role.grants:
            probe = grant.filter.replace("+", "x").replace("#", topic)
            if grant.access is Access.DENY:
                assert not allowed(role.broker, user, Access.READ, probe)
            elif may_subscribe(role.broker, user, wanted) and matches(wanted, probe):
                assert allowed(role.broker, user, Access.READ, probe)


@pytest.mark.parametrize(
    "wanted", ["#", "+/#", "iot/#", "iot/v1/+/+/down/#", "iot/v1/+/d-2/down/#", "iot/v1/fire/d-1/#", "$SYS/#"]
)
def test_a_device_may_not_subscribe_beyond_its_own(wanted: str) -> None:
    assert not may_subscribe(FIRE, "d-1", wanted)


@pytest.mark.parametrize("wanted", ["iot/v1/+/d-1/down/#", "iot/v1/fire/d-1/down/receipt/+", "iot/v1/fire/d-1/down/receipt/d-1"])
def test_a_device_may_subscribe_to_its_own_and_less(wanted: str) -> None:
    assert may_subscribe(FIRE, "d-1", wanted)


@pytest.mark.parametrize(
    ("broker", "user"), [(FIRE, "svc.fire.1.in"), (FIRE, "svc.telemetry.2.fire"), (FIELD, "svc.telemetry.1.field")]
)
def test_a_consumer_has_its_own_heartbeat_and_no_other(broker: BrokerName, user: str) -> None:
    for other in ("svc.fire.1.in", "svc.fire.2.in", "svc.telemetry.1.field", "svc.telemetry.2.fire", "svc.keeper.1.fire", "d-1"):
        for access in (Access.READ, Access.WRITE):
            assert allowed(broker, user, access, f"iotcore/heartbeat/{other}") is (other == user)
            assert not allowed(broker, "d-1", access, f"iotcore/heartbeat/{other}")
    assert not may_subscribe(broker, user, "iotcore/heartbeat/+")


@pytest.mark.parametrize("user", ["", "+", "#", "a/up/x", "d-1\n", "d.1", "svc.fire.0.in", "svc.fire.1", "svc..1.in"])
def test_a_name_that_no_certificate_of_ours_holds_may_nothing(user: str) -> None:
    for topic in (f"iot/v1/fire/{user}/up/reading/x", "iot/v1/fire/x/up/reading/x"):
        assert not allowed(FIRE, user, Access.WRITE, topic)


def test_no_service_can_pass_for_a_device() -> None:
    for role in ROLES:
        assert not any(DEVICE_NAME.match(name) for name in role.names())


def test_a_service_has_its_rights_on_its_own_broker_alone() -> None:
    assert allowed(FIRE, "svc.fire.1.in", Access.READ, "iot/v1/fire/d/up/reading/d")
    assert not allowed(FIELD, "svc.fire.1.in", Access.READ, "iot/v1/fire/d/up/reading/d")


def test_nobody_but_its_lane_sends_receipts_and_only_the_keeper_sends_commands() -> None:
    for role in ROLES:
        for domain in DOMAINS:
            receipt = allowed(role.broker, role.names()[0], Access.WRITE, f"iot/v1/{domain}/d/down/receipt/d")
            command = allowed(role.broker, role.names()[0], Access.WRITE, f"iot/v1/{domain}/d/down/command/d")
            lane = (role.user == "svc.fire.N.in" and domain == "fire") or (
                role.user == "svc.telemetry.N.field" and domain != "fire"
            )
            assert receipt is lane
            assert command is (role.user == f"svc.keeper.N.{'fire' if domain == 'fire' else 'field'}")


def test_the_acl_file_has_every_replica_of_its_own_broker_and_none_of_the_other() -> None:
    for broker in BrokerName:
        users = [line.removeprefix("user ") for line in acl_file(broker).splitlines() if line.startswith("user ")]
        assert users == [name for role in ROLES if role.broker is broker for name in role.names()]
        assert len(users) % REPLICAS == 0


def test_the_page_shows_the_table_as_it_is() -> None:
    """When this fails: .venv/bin/python -c 'from iotcore.provision.acl import access_page; print(access_page())'."""
    begin, end = "<!-- table: begin -->\n", "<!-- table: end -->"
    text = PAGE.read_text(encoding="utf-8")
    assert text[text.index(begin) + len(begin) : text.index(end)] == access_page()
