"""What the registry wants refused, carried out: the revocation lists, the brokers' copies of them, and whose session is cut.

    registry (what is wanted) ─► lists of the authority ─► crl.pem of each broker ─► cuts.json of each broker

Every step makes a file of what stands before it, whole, and does nothing where it is so already: a keeper that was killed in
between goes on at its next start, and a step that failed is taken again. No list of things to do is kept that could be lost.

    wanted by the registry                reason on the list        lifted      session
    the device is suspended               certificateHold           by resume   cut
    the device is retired                 cessationOfOperation      never       cut
    the certificate is marked revoked     keyCompromise             never       cut
    a newer one of the name has connected superseded                never       goes on: the name is the new one's too
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography import x509

from iotcore.provision import session_cut
from iotcore.provision.broker import BrokerHome, anchors, refresh_crl
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.profile import DEVICE_LIFETIME, SERVICE_LIFETIME, reason_of
from iotcore.registry.records import Standing

Reason = x509.ReasonFlags
Listed = Mapping[str, "Entry"]  # by serial, lower-case hex


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a revocation list."""

    anchor: Anchor
    reason: Reason
    at_s: int


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a list. `reason` None lifts a hold."""

    anchor: Anchor
    serial: str
    reason: Reason | None


def listed(authority: Authority) -> dict[str, Entry]:
    """What is on the lists of all anchors."""
    return {
        f"{entry.serial_number:x}": Entry(anchor, reason_of(entry), int(entry.revocation_date_utc.timestamp()))
        for anchor in Anchor
        for entry in x509.load_pem_x509_crl(authority.crl_pem(anchor))
    }


def held(lists: Listed) -> set[str]:
    """The serials that are on hold: of these the registry is asked whether they still are to be."""
    return {serial for serial, entry in lists.items() if entry.reason is Reason.certificate_hold}


def steps(standings: Iterable[Standing], lists: Listed) -> list[Step]:
    """What has to change on the lists. A certificate that the registry does not know stays as it is: nobody said that it may."""
    changes: list[Step] = []
    for one in standings:
        certificate = one.certificate
        reason, entry = _wanted(one), lists.get(certificate.serial)
        anchor = Anchor(certificate.anchor)
        on_hold = entry is not None and entry.reason is Reason.certificate_hold
        if (reason is not None and entry is None) or (on_hold and reason is not Reason.certificate_hold):
            changes.append(Step(anchor, certificate.serial, reason))
    return changes


def cuts(standings: Iterable[Standing], lists: Listed, home: BrokerHome) -> dict[str, str]:
    """Whose sessions a broker has to end: each revocation of a certificate that could connect there → the name in it."""
    found: dict[str, str] = {}
    for one in standings:
        entry = lists.get(one.certificate.serial)
        if entry is not None and entry.anchor in anchors(home.name) and entry.reason is not Reason.superseded:
            found[f"{one.certificate.serial} {entry.reason.name} {entry.at_s}"] = one.certificate.cn
    return found


def can_wait(changes: Iterable[Step]) -> bool:
    """Whether all that is to change is certificates that newer ones have replaced: nobody is put out by that.

    A list of a hundred thousand devices is some MB that a broker stops to read: what can wait goes on it together.
    """
    return all(change.reason is Reason.superseded for change in changes)


def carry_out(
    authority: Authority, homes: Iterable[BrokerHome], standings: Iterable[Standing], *, patient: bool = False
) -> tuple[list[Step], bool]:
    """Bring lists and brokers to what the registry wants: what was changed on the lists, and whether something is put off.

    `patient`: what can wait does, unless something else has to be done.

    Raises:
        StartError: a file could not be written; what was done stands, and the next call does the rest.
    """
    weighed = list(standings)
    changes = steps(weighed, listed(authority))
    put_off = bool(changes) and patient and can_wait(changes)
    if put_off:
        changes = []
    for anchor in dict.fromkeys(change.anchor for change in changes):
        here = [change for change in changes if change.anchor is anchor]
        out = {change.serial: change.reason for change in here if change.reason is not None}
        authority.change_lists(anchor, out, [change.serial for change in here if change.reason is None])
    lists = listed(authority)
    for home in homes:
        refresh_crl(authority, home)
        session_cut.want(home.folder, cuts(weighed, lists, home))
    return changes, put_off


def ended(authority: Authority, ends_ms: Mapping[str, int]) -> dict[Anchor, list[str]]:
    """What may leave the lists (RFC 5280, 3.3): a list was signed after the certificate had run out.

    `ends_ms`: when certificates run out, by serial. One that it does not know has run out when the longest life has passed since
    its revocation.
    """
    found: dict[Anchor, list[str]] = {}
    for serial, entry in listed(authority).items():
        longest = SERVICE_LIFETIME if entry.anchor is Anchor.SERVICE else DEVICE_LIFETIME
        end_s = ends_ms[serial] / 1000.0 if serial in ends_ms else entry.at_s + longest.total_seconds()
        if authority.list_signed(entry.anchor).timestamp() > end_s:
            found.setdefault(entry.anchor, []).append(serial)
    return found


def _wanted(one: Standing) -> Reason | None:
    if one.certificate.revoked_ms is not None:
        return Reason.key_compromise
    if one.state == "retired":
        return Reason.cessation_of_operation
    if one.certificate.superseded_ms is not None:
        return Reason.superseded
    return Reason.certificate_hold if one.state == "suspended" else None
