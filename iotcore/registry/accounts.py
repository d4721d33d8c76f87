"""Everything about people over one database."""

from __future__ import annotations

from dataclasses import dataclass

from iotcore.registry.api_tokens import ApiTokens
from iotcore.registry.approvals import Approvals
from iotcore.registry.database import Database
from iotcore.registry.people import People
from iotcore.registry.sessions import Limits, Sessions


@dataclass(frozen=True, slots=True)
class Accounts:
    """Users, sessions, API tokens, and what takes two of them."""

    people: People
    sessions: Sessions
    tokens: ApiTokens
    approvals: Approvals


def accounts(database: Database, idle_s: float, absolute_s: float) -> Accounts:
    """`idle_s` and `absolute_s`: how long a session lasts without use, and in any case."""
    limits = Limits(int(idle_s * 1000), int(absolute_s * 1000))
    return Accounts(People(database), Sessions(database, limits), ApiTokens(database), Approvals(database))
