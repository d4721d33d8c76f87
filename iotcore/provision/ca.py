"""The certificate authority: three anchors, each a root of its own, so that none can vouch for another's certificates.

folder/passphrase                  custody.py
folder/<fire|field|service>/       issuers.py: a root, whose key may be elsewhere, and the issuing authorities under it

A revocation list is its own record of what is revoked: it is read, extended and signed anew under a lock between processes.
A revoked serial goes on the list of every issuer of its anchor: who has signed it need not be known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from iotcore.clock import Clock
from iotcore.errors import StartError
from iotcore.provision import issuers, profile
from iotcore.provision.files import SECRET_MODE, locked, make_folder, write_whole
from iotcore.provision.issuers import Issuers, Module, Order, Signer
from iotcore.provision.listed import Lists

DEFAULT_CRL_URL = "https://localhost:8443/crl"
COMPLETE = "complete"  # written last at creation: from then on a missing file is a loss, not a first start


class Anchor(str, Enum):
    """The three trust anchors. A certificate of one is a stranger to the others."""

    FIRE = "fire"
    FIELD = "field"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate as the registry records it. `serial` is lower-case hex, `fingerprint` the SHA-256 of the DER in hex.

    `pem` of a service holds its issuing authority too, since who connects to it may know the root alone; of a device it does not:
    whoever lets devices in knows the issuing authorities (`Authority.trust_pem`).
    """

    pem: bytes
    serial: str
    cn: str
    anchor: Anchor
    not_after_ms: float
    fingerprint: str


@dataclass(frozen=True, slots=True)
class ServicePair:
    """A certificate of one of our own services and its (unencrypted) key, both PEM."""

    certificate: IssuedCertificate
    key_pem: bytes


class Authority:
    """Issues and revokes. Holds the keys in memory, decrypted; only the enrolling process and the keeper open one.

    What another process announces or rotates is followed at once: the order is looked at before each use.
    """

    def __init__(self, folder: Path, passphrase: bytes, clock: Clock, crl_url: str, pin: str = "") -> None:
        self.folder = folder
        self._homes = {
            anchor: issuers.Home(folder / anchor.value, anchor.value, passphrase, crl_url.rstrip("/"), pin) for anchor in Anchor
        }
        self._clock = clock
        self._known: dict[Anchor, tuple[object, Issuers]] = {}
        self._lists = Lists()

    @classmethod
    def ensure(
        cls,
        folder: Path,
        passphrase: bytes,
        clock: Clock,
        crl_url: str = DEFAULT_CRL_URL,
        *,
        pin: str = "",
        at: Module | None = None,
    ) -> Self:
        """Open the authority in `folder`; at the first start create it, with issuing keys in the security module `at`.

        Raises:
            StartError: wrong passphrase, or a part of an authority that once was complete is missing.
        """
        make_folder(folder)
        made = cls(folder, passphrase, clock, crl_url, pin)
        with locked(folder / "lock"):
            if not (folder / COMPLETE).exists():
                for home in made._homes.values():
                    issuers.make_first(home, _utc(clock), at)
                write_whole(folder / COMPLETE, b"")
        return cls.open(folder, passphrase, clock, crl_url, pin=pin)

    @classmethod
    def open(cls, folder: Path, passphrase: bytes, clock: Clock, crl_url: str = DEFAULT_CRL_URL, *, pin: str = "") -> Self:
        """Open an authority that is there; errors as `ensure`. `crl_url`/<name>.crl is where the lists are published."""
        opened = cls(folder, passphrase, clock, crl_url, pin)
        for anchor in Anchor:
            opened.issuers(anchor)
        return opened

    @property
    def clock(self) -> Clock:
        """The wall clock by which it judges."""
        return self._clock

    def issuers(self, anchor: Anchor) -> Issuers:
        """All issuers of `anchor` as they stand now.

        Raises:
            StartError: one of them cannot be opened.
        """
        home = self._homes[anchor]
        stamp = issuers.stamp(home.folder)
        known = self._known.get(anchor)
        if known is None or known[0] != stamp:
            known = self._known[anchor] = (stamp, issuers.open_issuers(home))
        return known[1]

    def trusted(self, anchor: Anchor) -> list[Signer]:
        """The issuers of `anchor` whose certificates count: the one that signs first."""
        return self.issuers(anchor).trusted(self._clock.wall_ms())

    def root_pem(self, anchor: Anchor) -> bytes:
        """The roots to trust, the one in use first; two while one follows another. What our clients and devices are given."""
        return _pem(self._roots(anchor))

    def trust_pem(self, anchor: Anchor) -> bytes:
        """The roots and the issuing authorities, for those who let devices in: a device shows its own certificate alone."""
        return _pem(self.chain(anchor))

    def root(self, anchor: Anchor) -> x509.Certificate:
        """The root of `anchor` that is in use."""
        return self.issuers(anchor).signs.root

    def chain(self, anchor: Anchor) -> list[x509.Certificate]:
        """Every root and issuing authority of `anchor` that counts, roots first."""
        below = [signer.certificate for signer in self.trusted(anchor) if signer.number != issuers.DIRECT]
        return [*self._roots(anchor), *below]

    def crl_pem(self, anchor: Anchor) -> bytes:
        """The revocation lists of `anchor` as they were last signed: one of each issuer, that of the one in use first."""
        return b"".join(signer.crl_pem() for signer in self.trusted(anchor))

    def published_crl(self, name: str) -> bytes | None:
        """The list (DER) that certificates call `name`.crl; None when there is none. <anchor>.crl is always one."""
        for anchor in Anchor:
            trusted = {self._homes[anchor].list_name(signer.number): signer for signer in self.trusted(anchor)}
            signer = trusted.get(name) or (self.issuers(anchor).signs if name == anchor.value else None)
            if signer is not None:
                return self._lists.read(signer.crl_file).der
        return None

    def issue_device(self, anchor: Anchor, key: profile.PublicKey, device: str) -> IssuedCertificate:
        """A certificate for `device` with the public key of its request; the caller has checked the request (policy.py)."""
        if anchor is Anchor.SERVICE:
            raise ValueError("a device is never a service")
        return _issued(profile.device(self.issuers(anchor).signs.issuer, device, key, self._now()), anchor)

    def issue_service(self, cn: str, names: Sequence[str] = (), *, signs_documents: bool = False) -> ServicePair:
        """A key and certificate for one of our own services: a server when it has `names` (DNS or IP), else a client.

        With `signs_documents` it is neither: it signs papers.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        signer = self.issuers(Anchor.SERVICE).signs
        issuer = signer.issuer
        if signs_documents:
            certificate = profile.signs_documents(issuer, cn, key.public_key(), self._now())
        elif names:
            certificate = profile.service_server(issuer, cn, names, key.public_key(), self._now())
        else:
            certificate = profile.service_client(issuer, cn, key.public_key(), self._now())
        plain = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        above = [] if signer.number == issuers.DIRECT else [signer.certificate]
        return ServicePair(_issued(certificate, Anchor.SERVICE, above), plain)

    def revoke(self, anchor: Anchor, serial: str, reason: x509.ReasonFlags = x509.ReasonFlags.unspecified) -> None:
        """Put `serial` (hex) on the lists of `anchor` and sign them anew; a second time changes nothing, but makes a hold final.

        The brokers still have to be given the new list (`broker.refresh_crl`) and told to read it (`BrokerProcess.reload`).
        """
        self.change_lists(anchor, {serial: reason})

    def lift(self, anchor: Anchor, serial: str) -> None:
        """Take `serial` (hex) off the list of `anchor` where it is on hold; any other revocation is final and stays."""
        self.change_lists(anchor, {}, [serial])

    def change_lists(
        self, anchor: Anchor, revoked: Mapping[str, x509.ReasonFlags], lifted: Iterable[str] = (), ended: Iterable[str] = ()
    ) -> None:
        """As `revoke` and `lift` for many, signing each list once.

        Of `ended` the certificates have run out, and a list has said so since (RFC 5280, 3.3): their lines are dropped.
        """
        added = [profile.revoked(int(serial, 16), reason, self._now()) for serial, reason in revoked.items()]
        self._sign_list(anchor, added, {int(serial, 16) for serial in lifted}, {int(serial, 16) for serial in ended})

    def republish(self, anchors: Iterable[Anchor] = Anchor) -> None:
        """Sign the lists anew with the same entries and a later next update: a list that expires locks everybody out."""
        for anchor in anchors:
            self._sign_list(anchor, [])

    def is_revoked(self, anchor: Anchor, serial: str) -> bool:
        """Whether `serial` (hex) is on a list of `anchor` as it was last signed."""
        number = int(serial, 16)
        return any(number in self.revoked_by(signer) for signer in self.trusted(anchor))

    def revoked_by(self, signer: Signer) -> Mapping[int, x509.RevokedCertificate]:
        """What is on the list of `signer` as it was last signed, by serial."""
        return self._lists.read(signer.crl_file).entries

    def list_signed(self, anchor: Anchor) -> datetime:
        """When the lists of `anchor` were last signed (UTC): the one that was so first."""
        return min(self._lists.read(signer.crl_file).signed for signer in self.trusted(anchor))

    def anchor_of(self, certificate: x509.Certificate) -> Anchor | None:
        """Which of our anchors has signed `certificate`; None when none has. Says nothing of its time or its revocation."""
        for anchor in Anchor:
            if any(_signed(certificate, signer.certificate) for signer in self.trusted(anchor)):
                return anchor
        return None

    def is_current(self, certificate: x509.Certificate) -> bool:
        """Whether `certificate` is valid now by its dates."""
        return certificate.not_valid_before_utc <= self._now() < certificate.not_valid_after_utc

    def crl_left_s(self, anchor: Anchor) -> float:
        """Seconds until the first list of `anchor` expires; the keeper alarms below 48 h."""
        return min(_left_s(signer, self._now()) for signer in self.trusted(anchor))

    def announce(
        self, anchor: Anchor, *, new_root: bool = False, root_key: Path | None = None, at: Module | None = None
    ) -> Signer:
        """Make the next issuing authority: trusted from now on, signing nothing yet. One that is announced is kept.

        `at`: its key is made in this security module.

        Raises:
            StartError: the root's key is not here (and `root_key` is not it), or the root may have nothing below it.
        """
        home = self._homes[anchor]
        with locked(self.folder / "lock"):
            now = self.issuers(anchor)
            if now.announced is not None:
                return now.announced
            root = None if new_root else issuers.root_with_key(home, now.signs.root, root_key)
            number = issuers.free_number(home.folder)
            issuers.make(home, number, root, self._now(), at)
            revoked = [entry for signer in self.trusted(anchor) for entry in signer.crl()]
            before = issuers.order(home.folder)
            issuers.write_order(home.folder, Order(before.signs, number, before.retired))
            announced = self.issuers(anchor).announced
            assert announced is not None
            self._extend(announced, revoked)
            return announced

    def rotate(self, anchor: Anchor) -> Signer:
        """The announced issuing authority signs from now on; the one before stays trusted until its last certificate runs out.

        Raises:
            StartError: none is announced.
        """
        home = self._homes[anchor]
        with locked(self.folder / "lock"):
            before = issuers.order(home.folder)
            if before.announced is None:
                raise StartError(
                    f"No authority is announced for {anchor.value}", f"First: iotcore ca issue-intermediate {anchor.value}"
                )
            now_ms = self._clock.wall_ms()
            longest = profile.SERVICE_LIFETIME if anchor is Anchor.SERVICE else profile.DEVICE_LIFETIME
            retired = {number: until for number, until in before.retired.items() if now_ms < until}
            retired[before.signs] = now_ms + longest / timedelta(milliseconds=1)
            issuers.write_order(home.folder, Order(before.announced, None, retired))
        return self.issuers(anchor).signs

    def take_root_keys(self, to: Path) -> list[Path]:
        """Move the keys of the roots into the folder `to`; each file is there before it is gone here. Nothing here needs them.

        Raises:
            StartError: `to` cannot be written, or holds another key of that name.
        """
        make_folder(to)
        taken = []
        for home in self._homes.values():
            for key in sorted(home.folder.glob(f"*/{issuers.ROOT_KEY}")):
                target = to / f"{home.list_name(int(key.parent.name))}-root.key"
                if target.exists() and target.read_bytes() != key.read_bytes():
                    raise StartError(f"{target} is another key", "Choose an empty folder.")
                write_whole(target, key.read_bytes(), SECRET_MODE)
                key.unlink()
                taken.append(target)
        return taken

    def root_key_here(self, anchor: Anchor, root: x509.Certificate) -> bool:
        """Whether the key of `root` lies in the folder."""
        return any(signer.root == root and signer.root_key_here for signer in self.trusted(anchor))

    def list_name(self, anchor: Anchor, signer: Signer) -> str:
        """What the list of `signer` is called where it is published."""
        return self._homes[anchor].list_name(signer.number)

    def _roots(self, anchor: Anchor) -> list[x509.Certificate]:
        return list(dict.fromkeys(signer.root for signer in self.trusted(anchor)))

    def _sign_list(
        self,
        anchor: Anchor,
        added: list[x509.RevokedCertificate],
        lifted: AbstractSet[int] = frozenset(),
        ended: AbstractSet[int] = frozenset(),
    ) -> None:
        with locked(self.folder / "lock"):
            for signer in self.trusted(anchor):
                self._extend(signer, added, lifted, ended)

    def _extend(
        self,
        signer: Signer,
        added: list[x509.RevokedCertificate],
        lifted: AbstractSet[int] = frozenset(),
        ended: AbstractSet[int] = frozenset(),
    ) -> None:
        before = signer.crl()
        gone = lifted | {entry.serial_number for entry in added if not profile.is_hold(entry)}
        stays = [
            entry
            for entry in before
            if entry.serial_number not in ended and (entry.serial_number not in gone or not profile.is_hold(entry))
        ]
        entries = {entry.serial_number: entry for entry in [*added, *stays]}  # what is there stays as it was
        number = before.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1
        crl = profile.revocations(signer.issuer, list(entries.values()), number, self._now())
        write_whole(signer.crl_file, crl.public_bytes(serialization.Encoding.PEM))

    def _now(self) -> datetime:
        return _utc(self._clock)


def _issued(certificate: x509.Certificate, anchor: Anchor, above: Sequence[x509.Certificate] = ()) -> IssuedCertificate:
    name = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    return IssuedCertificate(
        _pem([certificate, *above]),
        f"{certificate.serial_number:x}",
        str(name),
        anchor,
        certificate.not_valid_after_utc.timestamp() * 1000.0,
        certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _utc(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock.wall_ms() / 1000.0, UTC)


def _pem(certificates: Iterable[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _left_s(signer: Signer, now: datetime) -> float:
    until = signer.crl().next_update_utc
    assert until is not None
    return (until - now).total_seconds()
