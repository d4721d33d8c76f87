"""Rights: who may do what, in one table. Pure.

A person has grants: a role, everywhere or in an area and all that lies in it. A right is held where a role that has it was
granted. docs/people.md shows the table; a test keeps both alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

EVERYWHERE = ""  # the area of a grant that knows no bounds


class Role(StrEnum):
    """What somebody is in this installation."""

    ADMIN = "admin"
    TECHNICIAN = "technician"
    DISPATCHER = "dispatcher"
    VIEWER = "viewer"
    AUDITOR = "auditor"


class Right(StrEnum):
    """What can be allowed. The value stands in refusals and in docs/people.md."""

    SEE = "see"  # devices, values, incidents, history
    ACKNOWLEDGE = "acknowledge"  # take an incident
    SILENCE = "silence"  # silence an incident; it stays open
    RESET = "reset"  # end an incident's episode
    SHELVE = "shelve"  # put an alarm that is no fire aside for a time
    DISABLE = "disable"  # put a point, device, zone or premises out of service for a time
    COMMISSION = "commission"  # a technician's pages: enrol, test, accept
    PROVISION = "provision"  # register and replace devices, make tokens, answer enrolments that wait
    RETIRE = "retire"  # suspend, revoke and retire devices
    CHANGE_PLACES = "change_places"  # areas, buildings, contacts, groups
    CHANGE_RESPONSES = "change_responses"  # response plans: profiles, delays, who is told
    CHANGE_RULES = "change_rules"  # fire rules: what raises an alarm
    AUDIT = "audit"  # read the audit
    PEOPLE = "people"  # users, roles, API tokens of others
    APPROVE = "approve"  # ask for and approve what takes two persons
    AUTHORITY = "authority"  # the certificate authority


_SEES = frozenset({Right.SEE})
RIGHTS: dict[Role, frozenset[Right]] = {
    Role.ADMIN: frozenset(Right),
    Role.TECHNICIAN: _SEES | {Right.COMMISSION, Right.PROVISION, Right.DISABLE},
    Role.DISPATCHER: _SEES | {Right.ACKNOWLEDGE, Right.SILENCE, Right.RESET, Right.SHELVE},
    Role.VIEWER: _SEES,
    Role.AUDITOR: _SEES | {Right.AUDIT},
}


class Grant(NamedTuple):
    """A role in an area and all that lies in it; `EVERYWHERE` for no bounds."""

    role: Role
    area: str = EVERYWHERE


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who has proved who they are. `user` answers for what is done, `by` stands beside it: "lan", "lan/ci"."""

    user: str
    grants: frozenset[Grant]
    by: str
    session: str = ""  # hash of the session's id; "" for an API token
    within: frozenset[Grant] | None = None  # an API token's own grants: nothing beyond them, whatever its owner may

    def may(self, right: Right, place: Collection[str] = ()) -> bool:
        """Whether the right is held for something in `place`: the areas that it lies in, from the smallest up.

        What lies in no area can only be touched by somebody whose right knows no bounds.
        """
        if not _held(self.grants, right, place):
            return False
        return self.within is None or _held(self.within, right, place)

    def may_somewhere(self, right: Right) -> bool:
        """Whether the right is held anywhere at all."""
        return bool(_areas(self.grants, right)) and (self.within is None or bool(_areas(self.within, right)))

    @property
    def scope(self) -> tuple[frozenset[str], frozenset[str]]:
        """What the visitor sees, to be compared: two with the same scope see the same."""
        within = self.grants if self.within is None else self.within
        return _areas(self.grants, Right.SEE), _areas(within, Right.SEE)


def _areas(grants: Iterable[Grant], right: Right) -> frozenset[str]:
    return frozenset(grant.area for grant in grants if right in RIGHTS[grant.role])


def _held(grants: Iterable[Grant], right: Right, place: Collection[str]) -> bool:
    areas = _areas(grants, right)
    return EVERYWHERE in areas or not areas.isdisjoint(place)
