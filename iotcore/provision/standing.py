"""How the authority stands: for each issuer what there is, how long it lasts, where its revocation list is."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from iotcore.clock import Clock
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.issuers import DIRECT, Issuers, Signer

MIN_ISSUER_DAYS = 365.0  # the service certificates that it signs live that long
MIN_CRL_HOURS = 48.0  # the keeper signs hourly; two days are left to find out why it does not
MS_PER_DAY = 86_400_000.0


@dataclass(frozen=True, slots=True)
class Standing:
    """One issuer. `state`: signs, announced or retired; `trusted_days`: until it no longer counts."""

    anchor: str
    number: int
    state: str
    name: str
    days_left: float
    trusted_days: float
    root: str
    root_days_left: float
    root_key: str
    crl: str
    crl_number: int
    revoked: int
    crl_hours_left: float
    attention: str


def standings(authority: Authority, clock: Clock) -> list[Standing]:
    """Every issuer that counts, anchor by anchor, the one that signs first.

    Raises:
        StartError: a file of it is missing.
    """
    return [_standing(authority, anchor, signer, clock.wall_ms()) for anchor in Anchor for signer in authority.trusted(anchor)]


def _standing(authority: Authority, anchor: Anchor, signer: Signer, now_ms: float) -> Standing:
    issuers, crl = authority.issuers(anchor), signer.crl()
    assert crl.next_update_utc is not None
    days, root_days = _days(signer.certificate, now_ms), _days(signer.root, now_ms)
    hours = (crl.next_update_utc.timestamp() * 1000.0 - now_ms) / 3_600_000.0
    retired = {retired.number: until for retired, until in issuers.retired}
    return Standing(
        anchor=anchor.value,
        number=signer.number,
        state=_state(issuers, signer),
        name=_name(signer.certificate),
        days_left=days,
        trusted_days=(retired[signer.number] - now_ms) / MS_PER_DAY if signer.number in retired else days,
        root=_name(signer.root),
        root_days_left=root_days,
        root_key="signs" if signer.number == DIRECT else "here" if authority.root_key_here(anchor, signer.root) else "elsewhere",
        crl=f"{authority.list_name(anchor, signer)}.crl",
        crl_number=crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number,
        revoked=len(crl),
        crl_hours_left=hours,
        attention=_attention(min(days, root_days), hours, retired=signer.number in retired),
    )


def _state(issuers: Issuers, signer: Signer) -> str:
    if signer.number == issuers.signs.number:
        return "signs"
    return "announced" if issuers.announced and signer.number == issuers.announced.number else "retired"


def _attention(days: float, hours: float, *, retired: bool) -> str:
    """What a person should do, or ""."""
    if hours < MIN_CRL_HOURS:
        return "its list runs out and locks everybody out: start the keeper"
    if days < MIN_ISSUER_DAYS and not retired:
        return "it runs out in less than a year: iotcore ca rotate"
    return ""


def _days(certificate: x509.Certificate, now_ms: float) -> float:
    return (certificate.not_valid_after_utc.timestamp() * 1000.0 - now_ms) / MS_PER_DAY


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string().removeprefix("CN=")
