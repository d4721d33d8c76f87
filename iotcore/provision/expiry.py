"""What of the authority runs out, and how soon somebody has to know: one list for the keeper's figures and for the doctor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from iotcore.clock import Clock
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.services import days_left

DAY_S = 86_400.0
Kind = Literal["authority", "list", "service", "device"]
LIMITS_S: dict[Kind, float] = {
    "authority": 365 * DAY_S,  # every device has to learn of the next one before
    "list": 2 * DAY_S,  # signed hourly, good for 7 days: below this nobody has signed for five
    "device": 14 * DAY_S,  # renewed at half life, 45 days before its end: below this it has failed to for a month
    "service": 14 * DAY_S,  # made anew at a start past half life: below this nothing was started for months
}
REMEDIES: dict[Kind, str] = {
    "authority": "Let another follow it (iotcore ca issue-intermediate): what it has issued is worth nothing after its end.",
    "list": "Start the keeper: it publishes the lists anew every hour; an expired one locks out all devices.",
    "device": "See why it does not renew (its log, its clock, the enrolment listener), or give it a new token.",
    "service": "Restart `iotcore up`: it makes new ones.",
}


@dataclass(frozen=True, slots=True)
class Expiry:
    """One thing that runs out."""

    kind: Kind
    name: str
    left_s: float

    @property
    def alarming(self) -> bool:
        """Whether somebody has to know."""
        return self.left_s < LIMITS_S[self.kind]

    def __str__(self) -> str:
        what = {
            "authority": "the authority",
            "list": "the revocation list",
            "service": "the certificate of",
            "device": "the certificate of",
        }[self.kind]
        return f"{what} {self.name} {'runs' if self.left_s > 0 else 'ran'} out in {self.left_s / DAY_S:.1f} days"


def examined(authority: Authority, services: Iterable[Path], clock: Clock) -> list[Expiry]:
    """Everything, the most urgent by its own measure first. `services`: the certificates of our own services."""
    now_s = clock.wall_ms() / 1000.0
    found: list[Expiry] = []
    for anchor in Anchor:
        root, signs = authority.root(anchor), authority.issuers(anchor).signs.certificate
        found.append(Expiry("authority", anchor.value, root.not_valid_after_utc.timestamp() - now_s))
        if signs != root:
            found.append(Expiry("authority", f"{anchor.value} (issuing)", signs.not_valid_after_utc.timestamp() - now_s))
    found += [Expiry("list", anchor.value, authority.crl_left_s(anchor)) for anchor in Anchor]
    found += [Expiry("service", path.stem, days_left(path, clock) * DAY_S) for path in services if path.exists()]
    return sorted(found, key=lambda one: one.left_s / LIMITS_S[one.kind])
