"""Who gets a certificate: whatever is asked in whatever order, no right is used twice and no key belongs to two devices."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.registry import asked as words
from iotcore.registry.asked import Admitted, Asked, ByCertificate, BySecret, RefusedRequest, Waiting
from iotcore.registry.facts import APPROVED, BatchToken, Device, Facts, Key, Request, Token, Unit
from iotcore.registry.judge import MAX_WAITING, MAX_WAITING_OF_DEVICE, Judge
from iotcore.registry.records import Certificate

NOW_MS = 1_000_000
LATER_MS = 2_000_000
DEVICES = ("d1", "d2", "child")
SECRETS = ("of d1", "again of d1", "of d2", "late", "of SN1", "of the lot", "a guess")
NAMES = (*DEVICES, "SN1", "SN2", "nobody")


def facts() -> Facts:
    """Three devices; tokens, two units of a lot that are bound, a token for one of them."""
    known = Facts(NOW_MS)
    known.devices = {name: Device(name, "m", "registered", "gw" if name == "child" else None, "") for name in DEVICES}
    known.devices["gw"] = Device("gw", "m", "active", None, "")
    tokens = {"of d1": "d1", "again of d1": "d1", "of d2": "d2"}
    known.tokens = {secret: Token(secret, name, LATER_MS, None, None, approval=False) for secret, name in tokens.items()}
    known.tokens["late"] = Token("late", "d1", NOW_MS, None, None, approval=False)
    known.units = defaultdict(list)
    known.units["SN1"].append(Unit(1, "SN1", "lot", "of SN1", LATER_MS, "d1", None, None))
    known.units["SN2"].append(Unit(2, "SN2", "lot", "", LATER_MS, "d2", None, None))
    known.batch_tokens = {
        "of the lot": BatchToken("of the lot", "lot", 1, 0, approval=False, expires_ms=LATER_MS, revoked_ms=None)
    }
    return known


def signed(device: str, anchor: str) -> Certificate:
    return Certificate("01", device, anchor, LATER_MS, "ff")


def asking(name: str, right: BySecret | ByCertificate, key: str) -> Asked:
    return Asked(name, key, right, signed)


rights = st.one_of(
    st.sampled_from(SECRETS).map(BySecret),
    st.tuples(st.sampled_from([*DEVICES, "gw"]), st.just("serial")).map(lambda pair: ByCertificate(*pair)),
)
requests = st.builds(asking, st.sampled_from(NAMES), rights, st.sampled_from("abcdef"))


@given(st.lists(requests, max_size=40))
def test_no_right_is_used_twice_and_no_key_belongs_to_two(all_asked: list[Asked]) -> None:
    judge = Judge(facts(), lambda _: ("fire",))
    admitted = [(one, verdict) for one in all_asked if isinstance(verdict := judge.verdict(one), Admitted)]
    assert all(count == 1 for count in Counter(verdict.token for _, verdict in admitted if verdict.token).values())
    assert all(count == 1 for count in Counter(verdict.claim for _, verdict in admitted if verdict.claim).values())
    assert sum(bool(verdict.batch_token) for _, verdict in admitted) <= 1
    owners: dict[str, set[str]] = defaultdict(set)
    for one, verdict in admitted:
        owners[one.key].add(verdict.device)
        if isinstance(one.right, ByCertificate):
            assert one.right.holder == verdict.device or (one.right.holder, verdict.device) == ("gw", "child")
        else:
            assert one.right.hash not in {"late", "a guess"}
    assert all(len(names) == 1 for names in owners.values())
    assert sum(verdict.registered for _, verdict in admitted) == len({v.device for _, v in admitted} & set(DEVICES))


@pytest.mark.parametrize(
    ("revoked", "reason"),
    [((None, None), ""), ((None, 5), words.KEY_REVOKED), ((5, None), ""), ((5, 5), words.KEY_REVOKED)],
    ids=["both good", "the newest revoked", "the older one was followed", "both revoked"],
)
def test_a_key_may_stay_unless_its_last_certificate_was_revoked(revoked: tuple[int | None, int | None], reason: str) -> None:
    known = facts()
    known.keys["a"] = [Key("a", "d1", issued, gone) for issued, gone in zip((1, 2), revoked, strict=True)]
    verdict = Judge(known, lambda _: ("fire",)).verdict(asking("d1", BySecret("of d1"), "a"))
    assert (verdict.reason if isinstance(verdict, RefusedRequest) else "") == reason


def test_what_waits_for_a_person_is_bounded_for_a_device_and_for_all() -> None:
    known = facts()
    judge = Judge(known, lambda _: ("fire",), approval=True)
    said = [judge.verdict(asking("d1", BySecret("of d1"), f"k{n}")) for n in range(MAX_WAITING_OF_DEVICE + 1)]
    assert all(isinstance(one, Waiting) for one in said)
    assert [bool(one.opens) for one in said if isinstance(one, Waiting)] == [True] * MAX_WAITING_OF_DEVICE + [False]
    known.all_waiting = MAX_WAITING
    last = judge.verdict(asking("d2", BySecret("of d2"), "z"))
    assert isinstance(last, Waiting)
    assert (last.reason, last.opens) == (words.BUSY, "")


@pytest.mark.parametrize(("token", "admitted"), [("of d1", True), ("again of d1", False)])
def test_an_approval_is_good_for_the_right_that_asked(token: str, *, admitted: bool) -> None:
    known = facts()
    known.requests["d1", "a", "fire"] = Request(7, "d1", "a", "fire", token, APPROVED, LATER_MS, "")
    verdict = Judge(known, lambda _: ("fire",), approval=True).verdict(asking("d1", BySecret("of d1"), "a"))
    assert isinstance(verdict, Admitted) is admitted
