"""Who may do what: the whole table, areas, and API tokens that never exceed their owner."""

from __future__ import annotations

import re
import tomllib

import msgspec
import pytest

from iotcore.registry.rights import EVERYWHERE, RIGHTS, Grant, Right, Role, Visitor
from iotcore.settings import check
from tests.unit.test_docs import DOCS, blocks

WARD = frozenset({"hac-thanh", "thanh-hoa-city", "thanh-hoa"})  # a ward, and what it lies in
TABLE = {
    Role.ADMIN: set(Right),
    Role.TECHNICIAN: {Right.SEE, Right.COMMISSION, Right.PROVISION, Right.DISABLE},
    Role.DISPATCHER: {Right.SEE, Right.ACKNOWLEDGE, Right.SILENCE, Right.RESET, Right.SHELVE},
    Role.VIEWER: {Right.SEE},
    Role.AUDITOR: {Right.SEE, Right.AUDIT},
}


def visitor(*grants: Grant, within: frozenset[Grant] | None = None) -> Visitor:
    return Visitor("lan", frozenset(grants), "lan", within=within)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("right", Right)
def test_each_role_has_the_rights_of_the_table_and_no_other(role: Role, right: Right) -> None:
    assert visitor(Grant(role)).may(right) == (right in TABLE[role])
    assert visitor(Grant(role)).may_somewhere(right) == (right in TABLE[role])


def test_nobody_without_a_grant_may_anything() -> None:
    assert not any(visitor().may(right, WARD) or visitor().may_somewhere(right) for right in Right)


@pytest.mark.parametrize(("area", "may"), [("hac-thanh", True), ("thanh-hoa", True), (EVERYWHERE, True), ("sam-son", False)])
def test_a_role_in_an_area_counts_for_all_that_lies_in_it_and_for_nothing_else(area: str, may: bool) -> None:  # noqa: FBT001 a case
    dispatcher = visitor(Grant(Role.DISPATCHER, area))
    assert dispatcher.may(Right.RESET, WARD) == may
    assert dispatcher.may_somewhere(Right.RESET)
    assert dispatcher.may(Right.RESET) == (area == EVERYWHERE), "what lies nowhere takes a right without bounds"


def test_a_right_in_one_area_is_none_in_another_where_somebody_has_a_lesser_role() -> None:
    both = visitor(Grant(Role.DISPATCHER, "sam-son"), Grant(Role.VIEWER, EVERYWHERE))
    assert both.may(Right.SEE, WARD)
    assert not both.may(Right.ACKNOWLEDGE, WARD)
    assert both.may(Right.ACKNOWLEDGE, {"sam-son"})


def test_a_token_may_what_both_it_and_its_owner_may() -> None:
    token = visitor(Grant(Role.DISPATCHER, "hac-thanh"), within=frozenset({Grant(Role.DISPATCHER)}))
    assert token.may(Right.RESET, WARD)
    assert not token.may(Right.RESET, {"sam-son"}), "its owner may not"
    small = visitor(Grant(Role.ADMIN), within=frozenset({Grant(Role.VIEWER, "hac-thanh")}))
    assert small.may(Right.SEE, WARD)
    assert not small.may(Right.SEE, {"sam-son"})
    assert not small.may(Right.ACKNOWLEDGE, WARD)
    assert not small.may_somewhere(Right.PEOPLE)
    assert not visitor(within=frozenset({Grant(Role.ADMIN)})).may_somewhere(Right.SEE), "an owner without a role"


def test_the_page_shows_this_table() -> None:
    text = (
        (DOCS / "people.md").read_text(encoding="utf-8").partition("<!-- rights: begin -->")[2].partition("<!-- rights: end")[0]
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()]
    roles = [Role(name) for name in rows[0][1:]]
    shown = {role: set[Right]() for role in roles}
    for right, *cells in rows[2:]:
        for role, cell in zip(roles, cells, strict=True):
            assert cell in {"yes", ""}
            if cell:
                shown[role].add(Right(re.sub("`", "", right)))
    assert shown == {role: set(rights) for role, rights in RIGHTS.items()}


def test_the_settings_of_the_page_are_accepted() -> None:
    (block,) = [text for _, text in blocks(DOCS / "people.md", "toml")]
    settings = check({"data": "x", **tomllib.loads(block)}, "people.md")
    assert settings.oidc.roles[0].role == "dispatcher"
    assert "secret" not in repr(msgspec.structs.replace(settings.oidc, client_secret="secret"))
