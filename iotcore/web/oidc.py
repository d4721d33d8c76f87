"""An OpenID provider: authorization code with PKCE, and an ID token that is checked to its last claim (OpenID Connect Core 1.0).

    browser ─► /sign-in/oidc ─► provider ─► /sign-in/oidc/back?code&state ─► code for a token ─► who it is, and in which groups

State, nonce and verifier of an attempt lie in a cookie of the browser that began it: no other browser can end it.
"""

from __future__ import annotations

import hmac
import secrets
import ssl
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from authlib import deprecate
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from iotcore.clock import Clock
from iotcore.settings import Oidc

with warnings.catch_warnings():
    warnings.simplefilter("ignore", deprecate.AuthlibDeprecationWarning)  # it asks for httpx2, and works with httpx
    from authlib.integrations.httpx_client import AsyncOAuth2Client

# Signatures with a public key only: with HS256 the public key itself would be the secret, and "none" needs none (RFC 8725, 3.1).
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
KNOWN_S = 3600.0  # how long what the provider says of itself is believed
KEYS_AGAIN_S = 30.0  # keys are fetched again for an unknown one, but not more often
TIMEOUT_S = 5.0
SKEW_S = 60.0
SECRET_BYTES = 32
MAX_SUBJECT = 120
Trust = ssl.SSLContext | bool


class Unproven(Exception):
    """Nobody is signed in by this; `reason` is a name that operators rely on."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        super().__init__(f"{reason}: {detail}" if detail else reason)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the browser that began must show at the end."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> Attempt:
        """A fresh one."""
        return cls(*(secrets.token_urlsafe(SECRET_BYTES) for _ in range(3)))

    @property
    def cookie(self) -> str:
        """As the browser keeps it."""
        return f"{self.state}.{self.nonce}.{self.verifier}"

    @classmethod
    def of(cls, cookie: str) -> Attempt:
        """From the cookie; raises Unproven(`not_begun`)."""
        parts = cookie.split(".")
        if len(parts) != 3 or not all(parts):  # noqa: PLR2004 - as `cookie` makes it
            raise Unproven("not_begun", "this browser has not begun to sign in, or too long ago")
        return cls(*parts)


@dataclass(frozen=True, slots=True)
class Proved:
    """Who somebody is at the provider: `subject` names them for ever, `name` is what they are called now."""

    subject: str
    name: str
    groups: frozenset[str]


class Provider:
    """The one provider of this installation."""

    def __init__(self, settings: Oidc, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._about: dict[str, Any] = {}
        self._keys = KeySet([])
        self._asked_s = float("-inf")

    async def begin(self, attempt: Attempt, back: str) -> str:
        """Where to send the browser; it comes back to `back`. Raises Unproven."""
        about = await self._known()
        async with self._client(back) as client:
            url, _ = client.create_authorization_url(
                about["authorization_endpoint"], state=attempt.state, nonce=attempt.nonce, code_verifier=attempt.verifier
            )
        return str(url)

    async def end(self, attempt: Attempt, back: str, answer: Mapping[str, str]) -> Proved:
        """Who has come back with `answer`.

        Raises:
            Unproven: `refused`, `wrong_state`, `provider_down`, `wrong_code`, or what is wrong with the token.
        """
        if not hmac.compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
            raise Unproven("wrong_state", "the answer belongs to no attempt of this browser")
        if "error" in answer or "code" not in answer:
            raise Unproven("refused", answer.get("error", "")[:80])
        about = await self._known()
        if "iss" in answer and answer["iss"] != self._settings.issuer:  # RFC 9207
            raise Unproven("wrong_issuer", "another provider answers")
        async with self._client(back) as client:
            try:
                token = await client.fetch_token(
                    about["token_endpoint"], code=answer["code"], code_verifier=attempt.verifier, grant_type="authorization_code"
                )
            except httpx.HTTPError as error:
                raise Unproven("provider_down", repr(error)) from error
            except Exception as error:  # authlib has no one error for what a token endpoint may say
                raise Unproven("wrong_code", repr(error)) from error
        text = str(token.get("id_token", ""))
        return proved(await self._read(text), self._settings, attempt.nonce, self._clock.wall_ms() / 1000.0)

    async def _read(self, token: str) -> dict[str, Any]:
        """The claims of a token that one of the provider's keys has signed; the keys may have changed since."""
        try:
            return claims(token, self._keys)
        except Unproven as error:
            if error.reason != "unknown_key" or self._clock.monotonic_s() - self._asked_s < KEYS_AGAIN_S:
                raise
        await self._ask()
        return claims(token, self._keys)

    async def _known(self) -> dict[str, Any]:
        if self._clock.monotonic_s() - self._asked_s > KNOWN_S:
            try:
                await self._ask()
            except Unproven:
                if not self._about:
                    raise
        return self._about

    async def _ask(self) -> None:
        """What the provider says of itself (OpenID Connect Discovery 1.0), and its keys."""
        issuer = self._settings.issuer
        async with httpx.AsyncClient(verify=self._trust(), timeout=TIMEOUT_S) as client:
            try:
                about = (await client.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")).raise_for_status().json()
                keys = (await client.get(about["jwks_uri"])).raise_for_status().json()
                found = KeySet.import_key_set(keys)
            except (httpx.HTTPError, ValueError, KeyError, TypeError, JoseError) as error:
                raise Unproven("provider_down", repr(error)) from error
        if about.get("issuer") != issuer:
            raise Unproven("wrong_issuer", f"{issuer} says that it is {about.get('issuer')!r}")
        if not {"authorization_endpoint", "token_endpoint"} <= about.keys():
            raise Unproven("provider_down", "it names no endpoints")
        self._about, self._keys, self._asked_s = about, found, self._clock.monotonic_s()

    def _client(self, back: str) -> AsyncOAuth2Client:
        offered = self._about.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        way = "client_secret_basic" if "client_secret_basic" in offered else "client_secret_post"
        return AsyncOAuth2Client(
            self._settings.client_id,
            self._settings.client_secret or None,
            token_endpoint_auth_method=way if self._settings.client_secret else "none",
            scope=self._settings.scopes,
            redirect_uri=back,
            code_challenge_method="S256",
            verify=self._trust(),
            timeout=TIMEOUT_S,
        )

    def _trust(self) -> Trust:
        return ssl.create_default_context(cafile=self._settings.ca_file) if self._settings.ca_file else True


def claims(token: str, keys: KeySet) -> dict[str, Any]:
    """What a token says that one of `keys` has signed.

    Raises:
        Unproven: `unknown_key`, or `bad_signature` for whatever else is wrong with it, its algorithm among them.
    """
    try:
        return dict(jwt.decode(token, keys, algorithms=list(ALGORITHMS)).claims)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise Unproven("unknown_key" if isinstance(error, InvalidKeyIdError) else "bad_signature", repr(error)) from error


def proved(found: Mapping[str, Any], settings: Oidc, nonce: str, now_s: float) -> Proved:
    """Who a token's claims prove; OpenID Connect Core 1.0, 3.1.3.7.

    Raises:
        Unproven: `wrong_issuer`, `wrong_audience`, `expired`, `wrong_nonce`, or `no_subject`.
    """
    audience = found.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if found.get("iss") != settings.issuer:
        raise Unproven("wrong_issuer")
    if settings.client_id not in audiences or found.get("azp", settings.client_id) != settings.client_id:
        raise Unproven("wrong_audience")
    if len(audiences) > 1 and "azp" not in found:
        raise Unproven("wrong_audience", "it is for others too, and does not say who asked for it")
    if _time(found.get("exp")) <= now_s - SKEW_S or not 0 < _time(found.get("iat")) <= now_s + SKEW_S:
        raise Unproven("expired", "or not valid yet: compare the clocks")
    if not isinstance(found.get("nonce"), str) or not hmac.compare_digest(found["nonce"].encode(), nonce.encode()):
        raise Unproven("wrong_nonce", "it was made for another attempt")
    subject = found.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT:
        raise Unproven("no_subject")
    name, groups = found.get(settings.name_claim), found.get(settings.groups_claim, [])
    listed = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
    return Proved(
        f"{settings.issuer} {subject}",
        name.lower() if isinstance(name, str) else "",
        frozenset(group for group in listed if isinstance(group, str)),
    )


def _time(value: Any) -> float:
    """Seconds since 1970; 0 for what is no number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
