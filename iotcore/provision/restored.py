"""Revocation lists after a restore: no revocation is undone that a newer list still shows, and no list number is given twice."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from iotcore.clock import Clock
from iotcore.errors import StartError
from iotcore.provision import profile
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.files import locked, read_or_explain, write_whole

NUMBER_JUMP = 100_000  # lists: eleven years of one an hour


class Newer(NamedTuple):
    """What newer lists say: serial (hex) → on hold, or revoked for good. A certificate that was only replaced is not in it."""

    revoked: dict[str, Literal["hold", "final"]]
    lists: int


def numbers(ca: Path) -> dict[str, int]:
    """The number of each list in the folder of an authority, by its path there."""
    found = {}
    for path in sorted(ca.glob("**/crl.pem")):
        crl = x509.load_pem_x509_crl(read_or_explain(path, "Restore it from the backup."))
        found[path.relative_to(ca).as_posix()] = _number(crl)
    return found


def carry_forward(authority: Authority, files: Iterable[Path], left: Iterable[Path], clock: Clock) -> Newer:
    """Add to the lists what `files` (newer lists, PEM or DER) hold, and sign them under numbers beyond all that were given.

    `left` are lists that were found in an old folder; one that is not ours is passed over there.

    Raises:
        StartError: a file is no list, or none of ours has signed it.
    """
    named = list(files)
    newer = [(path, crl) for path in [*named, *left] for crl in _lists(path)]
    used: set[int] = set()
    told: dict[str, Literal["hold", "final"]] = {}
    with locked(authority.folder / "lock"):
        for anchor in Anchor:
            signers = authority.trusted(anchor)
            ours = [at for at, (_, crl) in enumerate(newer) if any(_signed(crl, one.certificate) for one in signers)]
            used |= set(ours)
            entries = {entry.serial_number: entry for at in ours for entry in newer[at][1]}
            for signer in signers:
                before = signer.crl()
                highest = max([_number(before), *(_number(newer[at][1]) for at in ours)])
                kept = {entry.serial_number: entry for entry in before} | entries
                now = datetime.fromtimestamp(clock.wall_ms() / 1000.0, UTC)
                crl = profile.revocations(signer.issuer, list(kept.values()), highest + NUMBER_JUMP, now)
                write_whole(signer.crl_file, crl.public_bytes(serialization.Encoding.PEM))
            for entry in entries.values():
                reason = profile.reason_of(entry)
                if reason is not x509.ReasonFlags.superseded:
                    told[f"{entry.serial_number:x}"] = "hold" if profile.is_hold(entry) else "final"
    if strange := [str(path) for at, (path, _) in enumerate(newer) if at not in used and path in named]:
        raise StartError(f"No authority of this backup has signed {', '.join(strange)}", "Name lists of this platform alone.")
    return Newer(told, len(used))


def _lists(path: Path) -> list[x509.CertificateRevocationList]:
    content = read_or_explain(path, "Name a revocation list that is there.")
    begin = b"-----BEGIN X509 CRL-----"
    try:
        if begin in content:
            return [x509.load_pem_x509_crl(begin + one) for one in content.split(begin)[1:]]
        return [x509.load_der_x509_crl(content)]
    except ValueError as error:
        raise StartError(f"{path} is no revocation list: {error}", "Name one in PEM or DER.") from error


def _signed(crl: x509.CertificateRevocationList, by: x509.Certificate) -> bool:
    key = by.public_key()
    return crl.issuer == by.subject and crl.is_signature_valid(key)  # type: ignore[arg-type]  # of our own kinds


def _number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
