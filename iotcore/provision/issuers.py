"""The issuers of one anchor, on disk: who signs now, who is announced, who has signed and is trusted until the last runs out.

folder/issuers.json                        which is which; not there: the release before, whose root signed by itself
folder/<n>/issuing.pem issuing.key crl.pem issuer n: a CA of path length 0, its key encrypted, the list of what is revoked
folder/<n>/issuing.token                   in place of issuing.key: where in a security module the key is (token_key.py)
folder/<n>/root.pem [root.key]             the root above it; its key is needed for the next issuer only, and may be elsewhere
folder/root.pem root.key crl.pem           issuer 0, of the release before: the root itself
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from iotcore.errors import StartError
from iotcore.provision import profile, token_key
from iotcore.provision.files import SECRET_MODE, make_folder, read_or_explain, write_whole

RESTORE = "Restore the folder from the backup; a new authority would not know any device."
ORDER = "issuers.json"
CRL = "crl.pem"
ROOT_KEY = "root.key"
ISSUING_KEY, TOKEN = "issuing.key", "issuing.token"
DIRECT = 0  # the number of a root that signs by itself


@dataclass(frozen=True, slots=True)
class Module:
    """A security module in which keys are made: its PKCS#11 library, and the label of the token."""

    library: str
    token: str


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is what, by number. `retired`: until when (ms UTC) something of theirs may still be valid."""

    signs: int
    announced: int | None = None
    retired: dict[int, float] = {}


@dataclass(frozen=True, slots=True)
class Signer:
    """One issuer of an anchor: its number, where it lives, the root above it (or itself), and what signs."""

    number: int
    folder: Path
    root: x509.Certificate
    issuer: profile.Issuer

    @property
    def certificate(self) -> x509.Certificate:
        return self.issuer.certificate

    @property
    def crl_file(self) -> Path:
        return self.folder / CRL

    @property
    def root_key_here(self) -> bool:
        return (self.folder / ROOT_KEY).exists()

    def crl_pem(self) -> bytes:
        """The list as it was last signed."""
        return read_or_explain(self.crl_file, RESTORE)

    def crl(self) -> x509.CertificateRevocationList:
        """The list as it was last signed."""
        return x509.load_pem_x509_crl(self.crl_pem())


@dataclass(frozen=True, slots=True)
class Issuers:
    """Those of one anchor that are trusted, or were."""

    signs: Signer
    announced: Signer | None
    retired: Sequence[tuple[Signer, float]]  # until when (ms UTC) something of it may still be valid

    def trusted(self, now_ms: float) -> list[Signer]:
        """The one that signs, the announced one, and the retired ones that have signed something still valid."""
        announced = [self.announced] if self.announced else []
        return [self.signs, *announced, *(signer for signer, until in self.retired if now_ms < until)]


@dataclass(frozen=True, slots=True)
class Home:
    """Where the issuers of an anchor live, what opens their keys, and where their lists are published."""

    folder: Path
    anchor: str
    passphrase: bytes
    crl_url: str
    pin: str = ""  # of a security module

    def list_name(self, number: int) -> str:
        """What the list of issuer `number` is called: a certificate names it, so a name is never another issuer's."""
        return self.anchor if number == DIRECT else f"{self.anchor}-{number}"

    def place(self, number: int) -> Path:
        return self.folder if number == DIRECT else self.folder / str(number)

    def published(self, number: int) -> str:
        return f"{self.crl_url}/{self.list_name(number)}.crl"

    @property
    def ocsp_url(self) -> str:
        """The responder that certificates name; "" where there is none: it is beside the lists when those are on plain HTTP."""
        beside = self.crl_url.removesuffix("/crl")
        return f"{beside}/ocsp" if beside != self.crl_url and self.crl_url.startswith("http://") else ""


def stamp(folder: Path) -> tuple[int, int] | None:
    """Changes with every change of the order; another process may have made it."""
    try:
        found = (folder / ORDER).stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino


def order(folder: Path) -> Order:
    """Who is what among the issuers in `folder`.

    Raises:
        StartError: it cannot be read.
    """
    path = folder / ORDER
    if not path.exists():
        return Order(DIRECT)
    try:
        return msgspec.json.decode(read_or_explain(path, RESTORE), type=Order)
    except msgspec.DecodeError as error:
        raise StartError(f"{path} makes no sense: {error}", RESTORE) from error


def write_order(folder: Path, new: Order) -> None:
    """Replace the order; from then on every process goes by it."""
    write_whole(folder / ORDER, msgspec.json.encode(new))


def open_issuers(home: Home) -> Issuers:
    """All issuers of an anchor with their keys.

    Raises:
        StartError: wrong passphrase, or a file is missing.
    """
    said = order(home.folder)
    announced = None if said.announced is None else _open(home, said.announced)
    retired = [(_open(home, number), until) for number, until in said.retired.items()]
    return Issuers(_open(home, said.signs), announced, retired)


def exists(folder: Path) -> bool:
    """Whether the anchor was made whole: by this release, or by the one before."""
    return (folder / ORDER).exists() or (folder / CRL).exists()


def make_first(home: Home, now: datetime, at: Module | None = None) -> None:
    """Make a new anchor; the order is written last, so that a cut start simply begins again."""
    if not exists(home.folder):
        make(home, 1, None, now, at)
        write_order(home.folder, Order(1))


def free_number(folder: Path) -> int:
    """One that no issuer has or had."""
    return 1 + max((int(path.name) for path in folder.iterdir() if path.name.isdecimal()), default=DIRECT)


def make(home: Home, number: int, root: profile.Issuer | None, now: datetime, at: Module | None = None) -> None:
    """Make issuer `number` under `root` (None: under a new one), with an empty list; nobody uses it until the order says so.

    `at`: its key is made in this security module; None: here, in a file. A root's key is a file: it is taken away.
    """
    place = make_folder(home.place(number))
    if root is None:
        key = ec.generate_private_key(ec.SECP256R1())
        root = profile.Issuer(profile.root(_name(home, "root"), key, now), key, "")
        write_whole(place / ROOT_KEY, _encrypted(key, home.passphrase), SECRET_MODE)
    write_whole(place / "root.pem", root.certificate.public_bytes(serialization.Encoding.PEM))
    key = _new_key(home, place, number, at)
    certificate = profile.issuing(root, _name(home, "issuing"), key.public_key(), now)
    issuer = profile.Issuer(certificate, key, home.published(number), home.ocsp_url)
    write_whole(place / "issuing.pem", certificate.public_bytes(serialization.Encoding.PEM))
    empty = profile.revocations(issuer, [], 1, now)
    write_whole(place / CRL, empty.public_bytes(serialization.Encoding.PEM))


def _new_key(home: Home, place: Path, number: int, at: Module | None) -> ec.EllipticCurvePrivateKey:
    """An issuing key, kept: encrypted in a file, or in a security module with a file that says where."""
    if at is None:
        key = ec.generate_private_key(ec.SECP256R1())
        write_whole(place / ISSUING_KEY, _encrypted(key, home.passphrase), SECRET_MODE)
        return key
    label = f"iotcore {home.list_name(number)} {secrets.token_hex(4)}"
    where = token_key.Place(at.library, at.token, label)
    made = token_key.make(where, home.pin)
    write_whole(place / TOKEN, msgspec.json.encode(where))
    return made


def root_with_key(home: Home, root: x509.Certificate, given: Path | None) -> profile.Issuer:
    """`root` with its key, out of the file `given` or from where it was made.

    Raises:
        StartError: the key is not here, or is another's, or the root may have no issuing authority below it.
    """
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints).value
    if constraints.path_length == 0:
        raise StartError(
            f"The {home.anchor} root was made by the release before: it may sign devices, and no issuing authority",
            "Give --new-root: the old root stays trusted until the last certificate of it has run out.",
        )
    for path in [given] if given else sorted(home.folder.glob(f"*/{ROOT_KEY}")):
        key = _opened_key(path, home.passphrase)
        if key.public_key() == root.public_key():
            return profile.Issuer(root, key, "")
    name = root.subject.rfc4514_string()
    said = f"{given} is not the key of {name}" if given else f"The key of {name} is not in {home.folder}"
    raise StartError(said, "Bring the key, and name its file with --root-key.")


def _open(home: Home, number: int) -> Signer:
    place, name = home.place(number), "root" if number == DIRECT else "issuing"
    root = x509.load_pem_x509_certificate(read_or_explain(place / "root.pem", RESTORE))
    certificate = x509.load_pem_x509_certificate(read_or_explain(place / f"{name}.pem", RESTORE))
    read_or_explain(place / CRL, RESTORE)
    key: ec.EllipticCurvePrivateKey
    if number != DIRECT and (place / TOKEN).exists():
        public = certificate.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        key = token_key.TokenKey(token_key.read(place / TOKEN), home.pin, public)
    else:
        key = _opened_key(place / f"{name}.key", home.passphrase)
    return Signer(number, place, root, profile.Issuer(certificate, key, home.published(number), home.ocsp_url))


def _opened_key(path: Path, passphrase: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(read_or_explain(path, RESTORE), passphrase)
    except (ValueError, TypeError) as error:
        raise StartError(f"{path} does not open with this passphrase", "Give the passphrase it was made with.") from error
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _encrypted(key: ec.EllipticCurvePrivateKey, passphrase: bytes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(passphrase)
    )


def _name(home: Home, what: str) -> str:
    # A part of the name is random: two installations' roots must not be mistaken for each other in one trust store.
    return f"iotcore {home.anchor} {what} {secrets.token_hex(4)}"
