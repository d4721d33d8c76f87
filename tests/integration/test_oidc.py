"""Signing in with a real OpenID provider, and ID tokens that prove nothing."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from quart.typing import TestClientProtocol as Client

from iotcore.clock import ManualClock, SystemClock
from iotcore.registry.rights import Grant, Role
from iotcore.settings import Oidc, OidcRole, People
from iotcore.web.oidc import Attempt, Provider, Unproven, claims, proved
from iotcore.web.server import serve
from tests.support.chromium import Chromium
from tests.support.console import Console, console
from tests.support.glewlwyd import CLIENT, PASSWORD, SECRET, Glewlwyd
from tests.support.ports import free_port

pytestmark = pytest.mark.timeout(90)
BROWSER = {"Host": "localhost", "Accept": "text/html"}
PORT = free_port()  # of our page in a real browser
BACK = "http://localhost/sign-in/oidc/back"
ROLES = [OidcRole("dispatch", "dispatcher"), OidcRole("boss", "admin")]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Glewlwyd]:
    backs = (BACK, f"http://localhost:{PORT}/sign-in/oidc/back")
    with Glewlwyd(tmp_path_factory.mktemp("provider"), *backs) as running:
        running.user("lan", ["dispatch", "other"])
        running.user("guest", ["other"])
        yield running


def settings(provider: Glewlwyd, *, auto_create: bool = True) -> Oidc:
    return Oidc(provider.issuer, CLIENT, SECRET, title="City", auto_create=auto_create, roles=ROLES)


@pytest.fixture
async def made(tmp_path: Path, provider: Glewlwyd) -> AsyncIterator[Console]:
    async with console(tmp_path, oidc=settings(provider)) as one, one.app.test_app():
        one.clock.now_ms = SystemClock().wall_ms()
        yield one


async def sent(client: Client, to: str = "/") -> str:
    """Where the button of the page sends a browser."""
    response = await client.get(f"/sign-in/oidc?to={to}", headers=BROWSER)
    assert response.status_code == 303
    return str(response.headers["Location"])


async def come_back(client: Client, address: str) -> Any:
    parts = urlsplit(address)
    return await client.get(f"{parts.path}?{parts.query}", headers=BROWSER)


async def refusals(made: Console) -> list[str]:
    entries = await made.registry.audit_entries()
    return [json.loads(one.deed.detail)["reason"] for one in entries if one.deed.action == "session.refuse"]


async def test_the_first_sign_in_makes_a_user_with_the_roles_of_the_groups(made: Console, provider: Glewlwyd) -> None:
    client = made.app.test_client()
    assert "City" in await (await client.get("/sign-in", headers=BROWSER)).get_data(as_text=True)
    there = await sent(client, "/devices/d1")
    asked = parse_qs(urlsplit(there).query)
    assert (asked["response_type"], asked["code_challenge_method"], asked["scope"]) == (["code"], ["S256"], ["openid profile"])
    assert {"state", "nonce", "code_challenge"} <= asked.keys()
    response = await come_back(client, provider.sign_in("lan", there))
    assert response.status_code == 200
    assert 'content="0;url=/devices/d1"' in await response.get_data(as_text=True)
    (strict,) = [line for line in response.headers.getlist("Set-Cookie") if line.startswith("session=")]
    assert "SameSite=Strict" in strict
    assert (await (await client.get("/api/v1/me", headers=BROWSER)).get_json())["roles"] == [{"role": "dispatcher", "area": ""}]
    (person,) = [one for one in await made.people.people.everybody() if one.name == "lan"]
    assert person.subject.startswith(f"{provider.issuer} ")
    assert not person.has_password


async def test_groups_that_change_change_the_roles_at_the_next_sign_in_and_local_ones_stay(
    made: Console, provider: Glewlwyd
) -> None:
    provider.user("hoa", ["dispatch"])
    client = made.app.test_client()
    await come_back(client, provider.sign_in("hoa", await sent(client)))
    await made.people.people.grant("hoa", Grant(Role.VIEWER), "tester")
    provider.regroup("hoa", ["boss"])
    again = made.app.test_client()
    assert (await come_back(again, provider.sign_in("hoa", await sent(again)))).status_code == 200
    assert (await made.people.people.person("hoa")).grants == {Grant(Role.ADMIN), Grant(Role.VIEWER)}


async def test_whoever_has_no_role_or_a_name_that_is_taken_stays_out(made: Console, provider: Glewlwyd) -> None:
    await made.people.people.add("lan", [Grant(Role.ADMIN)], "tester")
    for name, reason in (("guest", "no_role"), ("lan", "name_taken")):
        client = made.app.test_client()
        response = await come_back(client, provider.sign_in(name, await sent(client)))
        assert response.status_code == 403
        assert "session=" not in str(response.headers.getlist("Set-Cookie"))
        assert (await refusals(made))[-1] == f"oidc_{reason}"
    assert [one.name for one in await made.people.people.everybody()] == ["lan"]


async def test_without_auto_create_only_a_registered_subject_comes_in(tmp_path: Path, provider: Glewlwyd) -> None:
    async with console(tmp_path, oidc=settings(provider, auto_create=False)) as made, made.app.test_app():
        made.clock.now_ms = SystemClock().wall_ms()
        client = made.app.test_client()
        response = await come_back(client, provider.sign_in("lan", await sent(client)))
        assert (response.status_code, await refusals(made)) == (403, ["oidc_unknown_person"])
        attempt, clock = Attempt.new(), SystemClock()
        asking = Provider(settings(provider), clock)
        back = provider.sign_in("lan", await asking.begin(attempt, BACK))
        answer = {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}
        who = await asking.end(attempt, BACK, answer)
        assert who.groups == {"dispatch", "other"}
        await made.people.people.add("lan.nguyen", [], "tester", subject=who.subject)
        assert (await come_back(client, provider.sign_in("lan", await sent(client)))).status_code == 200
        await made.people.people.add("boss", [Grant(Role.ADMIN)], "tester")
        await made.people.people.disable("lan.nguyen", "tester")
        again = await come_back(client, provider.sign_in("lan", await sent(client)))
        assert again.status_code == 403, "a disabled user"


async def test_an_answer_is_worth_nothing_in_another_browser_nor_twice_nor_with_another_state(
    made: Console, provider: Glewlwyd
) -> None:
    victim, stranger = made.app.test_client(), made.app.test_client()
    back = provider.sign_in("lan", await sent(stranger))
    assert (await come_back(victim, back)).status_code == 403, "it has begun nothing"
    await sent(victim)
    assert (await come_back(victim, back)).status_code == 403, "it has begun another"
    assert (await refusals(made)) == ["oidc_not_begun", "oidc_wrong_state"]
    mixed = back.replace("state=", "state=x")
    assert (await come_back(stranger, mixed)).status_code == 403
    assert (await come_back(stranger, back)).status_code == 200
    assert (await come_back(stranger, back)).status_code == 403, "the attempt is over"
    client = made.app.test_client()
    await sent(client)
    assert (await come_back(client, "/sign-in/oidc/back?error=access_denied")).status_code == 403
    assert (await client.get("/sign-in/oidc/back", headers=BROWSER)).status_code == 403


async def test_a_code_needs_the_verifier_of_its_attempt_and_a_token_its_nonce(provider: Glewlwyd) -> None:
    asking = Provider(settings(provider), SystemClock())
    for changed, reason in (({"verifier": "x" * 43}, "wrong_code"), ({"nonce": "another"}, "wrong_nonce")):
        attempt = Attempt.new()
        answer = {
            name: values[0]
            for name, values in parse_qs(urlsplit(provider.sign_in("lan", await asking.begin(attempt, BACK))).query).items()
        }
        other = Attempt(**{"state": attempt.state, "nonce": attempt.nonce, "verifier": attempt.verifier, **changed})
        with pytest.raises(Unproven) as caught:
            await asking.end(other, BACK, answer)
        assert caught.value.reason == reason


async def test_a_provider_that_is_down_or_says_it_is_another_signs_nobody_in(made: Console, provider: Glewlwyd) -> None:
    down = Provider(Oidc(f"http://127.0.0.1:{free_port()}", CLIENT, SECRET), SystemClock())
    with pytest.raises(Unproven, match="provider_down"):
        await down.begin(Attempt.new(), "http://localhost/back")
    other = Provider(Oidc(f"{provider.issuer}/", CLIENT, SECRET), SystemClock())
    with pytest.raises(Unproven, match="wrong_issuer"):
        await other.begin(Attempt.new(), "http://localhost/back")
    assert not await made.people.people.anybody()


async def test_a_real_browser_comes_back_from_another_site_and_is_signed_in(tmp_path: Path, provider: Glewlwyd) -> None:
    provider.user("mai", ["dispatch"])
    people = People(passwords=False)
    async with console(tmp_path, oidc=settings(provider), people=people) as made, Chromium(tmp_path) as browser:
        made.clock.now_ms = SystemClock().wall_ms()
        serving = asyncio.create_task(serve(made.app, "127.0.0.1", PORT))
        try:
            await until_listening(PORT)
            await browser.open(f"http://localhost:{PORT}/devices/d1")
            await browser.wait_for("location.pathname == '/sign-in'")
            assert not await browser.evaluate("Boolean(document.querySelector('[type=password]'))"), "passwords are off"
            await browser.evaluate("document.querySelector('a.button').click()")
            await browser.wait_for("location.hostname == '127.0.0.1'")  # another site: neither name nor port is ours
            await browser.wait_for("document.readyState == 'complete'")
            await browser.evaluate(LOGIN % {"body": json.dumps({"username": "mai", "password": PASSWORD}), "client": CLIENT})
            await browser.wait_for(f"location.href == 'http://localhost:{PORT}/devices/d1'")
            assert await browser.evaluate("document.querySelector('.me a[href=\"/account\"]').innerText") == "mai"
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving


# What the provider's own page does: sign in, grant, and go on to where it was to send the browser
LOGIN = """(async () => {
  const json = {"Content-Type": "application/json"};
  const back = new URLSearchParams(location.search).get("callback_url");
  await fetch("/api/auth/", {method: "POST", headers: json, body: JSON.stringify(%(body)s)});
  await fetch("/api/auth/grant/%(client)s", {method: "PUT", headers: json, body: JSON.stringify({scope: "openid"})});
  location.assign(back + "&g_continue");
})()"""


async def until_listening(port: int) -> None:
    async with asyncio.timeout(10.0):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(0.02)


NOW_S = 1_795_312_800.0
GOOD: dict[str, Any] = {
    "iss": "https://id.example", "aud": "iotcore", "sub": "s1", "nonce": "n1", "exp": NOW_S + 300, "iat": NOW_S,
    "preferred_username": "Lan", "groups": ["dispatch", 7],
}  # fmt: skip
OURS = Oidc("https://id.example", "iotcore", "secret")
KEY = RSAKey.generate_key(2048, {"kid": "k1"}, private=True)
PUBLIC = KeySet([RSAKey.import_key(KEY.as_dict(private=False))])


def token(found: dict[str, Any], key: Any = KEY, **header: str) -> str:
    made: str = jwt.encode({"alg": "RS256", "kid": "k1", **header}, found, key, algorithms=[header.get("alg", "RS256")])
    return made


def test_a_token_that_is_right_proves_who_it_is() -> None:
    who = proved(claims(token(GOOD), PUBLIC), OURS, "n1", NOW_S)
    assert (who.subject, who.name, who.groups) == ("https://id.example s1", "lan", frozenset({"dispatch"}))
    for audience in (["iotcore"], ["iotcore", "others"]):
        proved({**GOOD, "aud": audience, "azp": "iotcore"}, OURS, "n1", NOW_S)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"iss": "https://evil.example"}, "wrong_issuer"),
        ({"aud": "another"}, "wrong_audience"),
        ({"aud": ["another"]}, "wrong_audience"),
        ({"aud": ["iotcore", "another"]}, "wrong_audience"),
        ({"azp": "another"}, "wrong_audience"),
        ({"exp": NOW_S - 61}, "expired"),
        ({"exp": None}, "expired"),
        ({"exp": "tomorrow"}, "expired"),
        ({"exp": True}, "expired"),
        ({"iat": NOW_S + 3600}, "expired"),
        ({"nonce": "n2"}, "wrong_nonce"),
        ({"nonce": None}, "wrong_nonce"),
        ({"sub": ""}, "no_subject"),
        ({"sub": "s" * 500}, "no_subject"),
        ({"sub": 7}, "no_subject"),
    ],
)
def test_a_token_with_a_wrong_claim_proves_nothing(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unproven) as caught:
        proved(claims(token({**GOOD, **changed}), PUBLIC), OURS, "n1", NOW_S)
    assert caught.value.reason == reason


def test_a_token_that_another_key_has_signed_or_none_or_our_public_key_as_a_secret_is_refused() -> None:
    other = RSAKey.generate_key(2048, {"kid": "k1"}, private=True)
    head, body, signature = token(GOOD).split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"k1"}').rstrip(b"=").decode()
    symmetric = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"k1"}').rstrip(b"=").decode()
    mac = hmac.digest(KEY.as_pem(private=False), f"{symmetric}.{body}".encode(), "sha256")
    forged = json.dumps({**GOOD, "sub": "admin"}).encode()
    swapped = base64.urlsafe_b64encode(forged).rstrip(b"=").decode()
    hostile = {
        "another key": token(GOOD, other),
        "no algorithm": f"{none}.{body}.",
        "no algorithm, a signature": f"{none}.{body}.{signature}",
        "the public key as a secret": f"{symmetric}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}",
        "another body": f"{head}.{swapped}.{signature}",
        "no signature": f"{head}.{body}.",
        "garbage": "a.b.c",
        "nothing": "",
    }
    for what, text in hostile.items():
        with pytest.raises(Unproven) as caught:
            claims(text, PUBLIC)
        assert caught.value.reason == "bad_signature", what
    with pytest.raises(Unproven) as caught:
        claims(token(GOOD, RSAKey.generate_key(2048, {"kid": "k2"}, private=True), kid="k2"), PUBLIC)
    assert caught.value.reason == "unknown_key"
    assert ManualClock().wall_ms() / 1000.0 == NOW_S
