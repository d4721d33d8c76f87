"""A restore, on SQLite and PostgreSQL: what waited for a person, or was left of a token for many, does not come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from iotcore.clock import ManualClock
from iotcore.registry.accounts import accounts
from iotcore.registry.claims import UnitEntry
from iotcore.registry.enrolments import Enrolments
from iotcore.registry.rights import Grant, Role
from iotcore.registry.store import Registry
from tests.integration.test_restore import HOUR_S, enrolled, restored_to
from tests.support.backed_up import Kept


@pytest.fixture
def kept(registry_url: str, tmp_path: Path) -> Kept:
    made = Kept(tmp_path / "platform", ManualClock(), registry_url if registry_url.startswith("postgres") else "")
    made.root.mkdir()
    made.begin()
    return made


def test_what_waited_for_a_person_waits_no_more(kept: Kept) -> None:
    """It may have been decided since, the other way."""
    arguments = {"anchor": "fire"}

    async def prepared(registry: Registry) -> list[int]:
        people = accounts(registry.database, HOUR_S, 10 * HOUR_S)
        for name in ("lan", "minh"):
            await people.people.add(name, [Grant(Role.ADMIN)], "t")
        asked = [(await people.approvals.ask(f"ca.{what}", arguments, "lan")).id for what in ("rotate", "issue")]
        await people.approvals.decide(asked[0], "minh", approve=True)
        enrolments = Enrolments(registry.database)
        tokens = {device: await enrolments.create_token(device, 10 * HOUR_S, "t", approval=True) for device in ("d1", "d2")}
        assert [await enrolled(registry, device, token) for device, token in tokens.items()] == ["pending", "pending"]
        first, _ = await enrolments.requests()
        await enrolments.decide(first.id, "minh", approve=True)
        return asked

    async def left(registry: Registry) -> tuple[object, ...]:
        people = accounts(registry.database, HOUR_S, 10 * HOUR_S)
        states = {one.id: (one.state, one.decided_by) for one in await people.approvals.all()}
        taken = [await people.approvals.take(f"ca.{what}", arguments, "lan") for what in ("rotate", "issue")]
        return states, taken, await Enrolments(registry.database).requests()

    rotate, issue = kept.ask(prepared)
    _, url = restored_to(kept, kept.make())
    states, taken, waiting = kept.ask(left, url)
    assert states == {rotate: ("rejected", "restore"), issue: ("rejected", "restore")}
    assert taken == [None, None]
    assert waiting == []
    deeds = [(one.deed.action, one.deed.subject) for one in kept.ask(lambda registry: registry.audit_entries(), url)]
    assert {("enrolment_request.void", "d1"), ("enrolment_request.void", "d2")} <= set(deeds)
    assert {("approval.void", "ca.rotate"), ("approval.void", "ca.issue")} <= set(deeds)


def test_uses_of_a_batch_token_that_were_left_do_not_come_back(kept: Kept) -> None:
    async def prepared(registry: Registry) -> str:
        enrolments = Enrolments(registry.database)
        await enrolments.tell(
            "lot-1", [UnitEntry("smoke-heat", serial, "") for serial in ("SN1", "SN2", "SN3")], 10 * HOUR_S, "t"
        )
        for serial, device in (("SN1", "d1"), ("SN2", "d2"), ("SN3", "d3")):
            await enrolments.bind(serial, device, "t")
        return await enrolments.create_batch_token("lot-1", 2, 10 * HOUR_S, "t")

    token = kept.ask(prepared)
    assert kept.ask(lambda registry: enrolled(registry, "SN1", token)) == "fire"
    file = kept.make()
    assert kept.ask(lambda registry: enrolled(registry, "SN2", token)) == "fire"  # all are used
    assert kept.ask(lambda registry: enrolled(registry, "SN3", token)) == "token"
    _, url = restored_to(kept, file)

    async def again(registry: Registry) -> list[str]:
        """Bound again: what is void is the token."""
        heard = []
        for serial, device in (("SN2", "d2"), ("SN3", "d3")):
            await Enrolments(registry.database).bind(serial, device, "t")
            heard.append(await enrolled(registry, serial, token))
        return heard

    assert kept.ask(again, url) == ["token", "token"]
