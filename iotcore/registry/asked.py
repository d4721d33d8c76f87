"""What enrolment asks of the registry, and what the registry says. Frozen records; secrets come hashed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from iotcore.errors import EnrolmentError
from iotcore.registry.records import Certificate

TOKEN = "token"  # noqa: S105 - the name of a reason
ANCHOR = "anchor"
CERTIFICATE = "certificate"
KEY_ELSEWHERE = "key_elsewhere"
KEY_REVOKED = "key_revoked"
NOT_A_CHILD = "not_a_child"
REJECTED = "rejected"
UNBOUND = "unbound"
PENDING = "pending"
BUSY = "busy"

POLL_S = 60.0  # how soon a unit that waits for a person may ask again
BUSY_S = 5.0  # how soon when too many ask at once


@dataclass(frozen=True, slots=True)
class BySecret:
    """The right of whoever knows a token, or the secret of a unit; `hash` is its SHA-256 in hex."""

    hash: str


@dataclass(frozen=True, slots=True)
class ByCertificate:
    """The right of the holder of a certificate of ours: for itself a renewal, for another name its child's enrolment."""

    holder: str
    serial: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A sound request: `name` is its common name, a device's or the serial of a unit; `key` the SHA-256 of its public key in hex.

    `anchor`: "" for the device's usual one. `issue(device, anchor)` signs; it runs in a thread, before the commit.
    `audited()` is called for a refusal: whether it may take an entry of its own in the audit.
    """

    name: str
    key: str
    right: BySecret | ByCertificate
    issue: Callable[[str, str], Certificate]
    anchor: str = ""
    address: str = ""
    audited: Callable[[], bool] = lambda: True


@dataclass(frozen=True, slots=True)
class Admitted:
    """May have a certificate. `spends` says by what row: a token, a unit, a token of a batch, a request."""

    device: str
    anchor: str
    by: str
    registered: bool  # becomes provisioned by it
    token: str = ""
    claim: int = 0
    batch_token: str = ""
    request: int = 0


@dataclass(frozen=True, slots=True)
class RefusedRequest:
    """May not. `reason` and `told` go to the device, `why` to the audit alone: a stranger learns nothing of what exists."""

    reason: str
    told: str
    why: str = ""

    def error(self) -> EnrolmentError:
        return EnrolmentError(self.reason, self.told)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not now. `opens`: a request for a person to look at is made of it, under this secret."""

    reason: str
    told: str
    retry_s: float
    device: str = ""
    anchor: str = ""
    opens: str = ""

    def error(self) -> EnrolmentError:
        return EnrolmentError(self.reason, self.told, self.retry_s)


Verdict = Admitted | RefusedRequest | Waiting
