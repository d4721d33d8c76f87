"""Frozen records that the registry hands out. Times are whole milliseconds UTC; "" means none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["registered", "provisioned", "active", "suspended", "retired"]
IntentKind = Literal[
    "acknowledge", "silence", "reset", "owner", "cad", "shelve", "unshelve", "retry", "drop", "send", "withhold", "drill"
]  # fmt: skip

# registered → provisioned → active ⇄ suspended → retired
NEXT_STATES: dict[str, frozenset[str]] = {
    "registered": frozenset({"provisioned"}),
    "provisioned": frozenset({"active"}),
    "active": frozenset({"suspended"}),
    "suspended": frozenset({"active", "retired"}),
    "retired": frozenset(),
}
# A device is a place: when its unit is replaced, the new one begins as a new device does; of a retired device there is no place.
REPLACEABLE: frozenset[State] = frozenset({"registered", "provisioned", "active", "suspended"})
# Decommissioning ends a life from wherever it is; by the way above only a suspended device is retired.
RETIRABLE: frozenset[State] = frozenset({"registered", "provisioned", "active", "suspended"})


def first_state(*, behind_a_gateway: bool) -> State:
    """A new unit waits for its certificate; one behind a gateway needs none of its own: the gateway's speaks for it."""
    return "provisioned" if behind_a_gateway else "registered"


@dataclass(frozen=True, slots=True)
class Certificate:
    """An issued certificate; `cn` is a device or a service.

    `fingerprint` is the SHA-256 of its DER, `key` of its public key (SubjectPublicKeyInfo), both in hex.
    """

    serial: str
    cn: str
    anchor: str
    not_after_ms: int
    fingerprint: str
    issued_ms: int = 0
    revoked_ms: int | None = None
    key: str = ""
    superseded_ms: int | None = None  # when a newer one of the same name had connected


@dataclass(frozen=True, slots=True)
class Standing:
    """A certificate, and the state of the device whose it is; "" for a service's."""

    certificate: Certificate
    state: State | Literal[""]


@dataclass(frozen=True, slots=True)
class Intent:
    """What a person wants of a lane.

    `key` is the incident's id; or `INCIDENT/NUMBER` or `alarm/NUMBER` for one alarm; or which rows of a quarantine
    (`journal.quarantine.Wanted`). The same kind and key is asked once. `body` is JSON: what is said besides.
    """

    id: int
    kind: IntentKind
    key: str
    by: str
    at_ms: int
    body: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """Something changed: `kind` is area, premises, contact, zone, device, certificate … (what changed), `key` its id."""

    id: int
    kind: str
    key: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did."""

    added: int
    changed: int
    same: int
