"""A signing key that never leaves a security module (PKCS#11): made there, used there, named here by a small file.

    ca/<anchor>/<n>/issuing.token     {"module": "/usr/lib/softhsm/libsofthsm2.so", "token": "iotcore", "key": "iotcore fire-1 …"}

cryptography's builders take whatever is an `EllipticCurvePrivateKey`: they ask it to sign, and never for the key. The PIN is in
no file of ours (custody.py). The module is asked when something is to be signed, and not before: a process that signs nothing
starts without it. One that lost its token is made to begin anew at the next use; until then whoever asks is told why.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from iotcore.errors import SigningError, StartError

T = TypeVar("T")
COORDINATE_BYTES = 32  # of P-256; a PKCS#11 signature is r and s, each that long (PKCS#11 2.40, 2.3.1)
RETRY_S = 1.0  # between two attempts to reach a token that is gone: each may take a network module seconds
EXTRA = "Install it: pip install 'iotcore[hsm]'."


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a key is: the module's library, the token's label, the key's label."""

    module: str
    token: str
    key: str

    def __str__(self) -> str:
        return f"key {self.key!r} of token {self.token!r}"


class WrongPin(SigningError):
    """The PIN of a token is wrong."""


class _Module:
    """One PKCS#11 library, once in a process. No session outlives `begin_again`: a key remembers of which beginning it is."""

    def __init__(self, path: str) -> None:
        self.lock = threading.RLock()  # a session is used by one thread at a time
        self.beginning = 0
        self._sessions: dict[str, Any] = {}
        self._wrong: set[tuple[str, str]] = set()  # token, PIN
        try:
            self.library = _pkcs11().lib(path)
        except Exception as error:  # its own kinds, OSError, RuntimeError: whatever a foreign library does when it is loaded
            raise StartError(f"The PKCS#11 module {path} cannot be used: {_said(error)}", "Name the module's library.") from error

    def session(self, token: str, pin: str) -> Any:
        """A session with this token, logged in. A wrong PIN is tried once in a process: tokens lock themselves after a few."""
        if (token, pin) in self._wrong:
            raise WrongPin(
                "the PIN was wrong, and is not tried again, for the token would lock itself; restart with the right one"
            )
        if token not in self._sessions:
            try:
                self._sessions[token] = self.library.get_token(token_label=token).open(user_pin=pin, rw=True)
            except _pkcs11().exceptions.PinIncorrect as error:
                self._wrong.add((token, pin))
                raise WrongPin("the PIN is wrong") from error
        return self._sessions[token]

    def tried(self, work: Callable[[], T]) -> T:
        """Do it; once more after a new beginning, where it fails: python-pkcs11 has thirty kinds for "the token is not there"."""
        try:
            return work()
        except WrongPin:
            raise
        except Exception:  # noqa: BLE001 - see above
            self.begin_again()
            return work()

    def begin_again(self) -> None:
        """Forget every session: what a token that was taken away and is back needs."""
        self._sessions.clear()
        self.beginning += 1
        self.library.reinitialize()


_modules: dict[str, _Module] = {}
_modules_lock = threading.Lock()


class TokenKey(ec.EllipticCurvePrivateKey):
    """The private key at `place`; `public` is its other half."""

    def __init__(self, place: Place, pin: str, public: ec.EllipticCurvePublicKey) -> None:
        self.place = place
        self._pin = pin
        self._public = public
        self._handle: Any = None
        self._beginning = -1
        self._failed_s = -RETRY_S
        self._why = ""

    def sign(self, data: bytes | bytearray | memoryview, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """ECDSA with SHA-256, DER.

        Raises:
            SigningError: the token is gone, or refuses; tried again at the next use.
        """
        if not isinstance(signature_algorithm.algorithm, hashes.SHA256):
            raise TypeError("these keys sign SHA-256 only")
        digest = hashlib.sha256(data).digest()
        raw = self._done(lambda key: key.sign(digest, mechanism=_pkcs11().Mechanism.ECDSA))
        r, s = (int.from_bytes(part, "big") for part in (raw[:COORDINATE_BYTES], raw[COORDINATE_BYTES:]))
        return utils.encode_dss_signature(r, s)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def private_numbers(self) -> NoReturn:
        raise TypeError(f"the {self.place} does not leave it")

    def private_bytes(self, *_: object) -> NoReturn:
        raise TypeError(f"the {self.place} does not leave it")

    def exchange(self, *_: object) -> NoReturn:
        raise TypeError("these keys sign, and nothing else")

    def __copy__(self) -> TokenKey:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> TokenKey:
        return self

    def _done(self, work: Callable[[Any], bytes]) -> bytes:
        """Do it with the key; once more with a module that begins again, where it fails."""
        try:
            module = _module(self.place.module)
        except StartError as error:
            raise SigningError(str(error)) from error
        with module.lock:
            if time.monotonic() - self._failed_s < RETRY_S:
                raise SigningError(self._why)
            try:
                return module.tried(lambda: work(self._key(module)))
            except Exception as error:
                self._failed_s = time.monotonic()
                self._why = f"the {self.place} cannot be used: {_said(error)}"
                raise SigningError(self._why) from error

    def _key(self, module: _Module) -> Any:
        """The key in the token; looked for once in each beginning of the module, and only if it is ours."""
        if self._handle is None or self._beginning != module.beginning:
            kinds, attribute = _pkcs11().ObjectClass, _pkcs11().Attribute
            session = module.session(self.place.token, self._pin)
            there = session.get_key(object_class=kinds.PUBLIC_KEY, label=self.place.key)
            if _public(there[attribute.EC_POINT]) != self._public:
                raise SigningError("it is another key than that of the certificate")
            self._handle = session.get_key(object_class=kinds.PRIVATE_KEY, label=self.place.key)
            self._beginning = module.beginning
        return self._handle


def make(place: Place, pin: str) -> TokenKey:
    """A new P-256 key at `place`: made in the token, sensitive, never extractable.

    Raises:
        StartError: no such token, a wrong PIN, or the token cannot do it.
    """
    module = _module(place.module)
    with module.lock:
        try:
            return TokenKey(place, pin, module.tried(lambda: _made(module.session(place.token, pin), place.key)))
        except Exception as error:
            raise StartError(
                f"The {place} cannot be used: {_said(error)}", "Check module, token and PIN (IOTCORE_CA_PIN)."
            ) from error


def _made(session: Any, label: str) -> ec.EllipticCurvePublicKey:
    """The public half of a key pair that is made in the token and stays there."""
    pkcs11, curves = _pkcs11(), import_module("pkcs11.util.ec")
    attribute = pkcs11.Attribute
    named = {attribute.EC_PARAMS: curves.encode_named_curve_parameters("secp256r1")}
    guarded = {attribute.SENSITIVE: True, attribute.EXTRACTABLE: False, attribute.PRIVATE: True, attribute.SIGN: True}
    public, _ = session.create_domain_parameters(pkcs11.KeyType.EC, named, local=True).generate_keypair(
        store=True,
        label=label,
        id=label.encode(),
        mechanism=pkcs11.Mechanism.EC_KEY_PAIR_GEN,
        private_template={**guarded, attribute.DERIVE: False},
    )
    return _public(public[attribute.EC_POINT])


def read(path: Path) -> Place:
    """What a file says of where the key is.

    Raises:
        StartError: it makes no sense.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Place)
    except (OSError, msgspec.DecodeError) as error:
        raise StartError(f"{path} makes no sense: {error}", "Restore it from the backup.") from error


def _module(path: str) -> _Module:
    with _modules_lock:
        if path not in _modules:
            _modules[path] = _Module(path)
        return _modules[path]


def _public(point: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of an EC_POINT: a DER octet string around the uncompressed point (PKCS#11 2.40, 2.3.3)."""
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point[2:])


def _said(error: BaseException) -> str:
    """In words: python-pkcs11 says it with the name of the exception."""
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _pkcs11() -> Any:
    try:
        return import_module("pkcs11")
    except ImportError as error:
        raise StartError("Keys in a security module need python-pkcs11", EXTRA) from error
