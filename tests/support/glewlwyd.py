"""A real OpenID provider, Debian's glewlwyd: its own SQLite file in a folder of its own, on a free loopback port.

with Glewlwyd(folder, "http://localhost/sign-in/oidc/back") as provider: provider.user("lan", groups=["dispatch"])
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from joserfc.jwk import RSAKey

from tests.support.ports import free_port
from tests.support.services import require

SCHEMA = Path("/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3")  # of the Debian package
LIMIT_S = 20.0
SECRET, PASSWORD = "a-secret-of-this-test", "correct horse battery"
CLIENT = "iotcore"
CONFIG = """
port = {port}
bind_address = "127.0.0.1"
external_url = "http://127.0.0.1:{port}"
login_url = "login.html"
api_prefix = "api"
static_files_path = "/usr/share/glewlwyd/webapp/"
log_mode = "file"
log_level = "INFO"
log_file = "{folder}/log"
cookie_domain = "127.0.0.1"
cookie_secure = 0
session_key = "GLEWLWYD2_SESSION_ID"
admin_session_authentication = "cookie"
profile_session_authentication = "cookie"
login_api_enabled = true
admin_scope = "g_admin"
profile_scope = "g_profile"
user_module_path = "/usr/lib/glewlwyd/user"
user_middleware_module_path = "/usr/lib/glewlwyd/user_middleware"
client_module_path = "/usr/lib/glewlwyd/client"
user_auth_scheme_module_path = "/usr/lib/glewlwyd/scheme"
plugin_module_path = "/usr/lib/glewlwyd/plugin"
hash_algorithm = "SHA512"
static_files_mime_types = ({{ extension = ".html"; mime_type = "text/html"; compress = 0; }})
database = {{ type = "sqlite3"; path = "{folder}/glewlwyd.db"; }};
"""


class Glewlwyd:
    """One provider with one client: us, at the addresses `backs`. Its key is ours to know, so that a test can sign as it does."""

    def __init__(self, folder: Path, *backs: str) -> None:
        self._backs = list(backs)
        self._folder = folder / "glewlwyd"
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._admin = httpx.Client(base_url=f"http://127.0.0.1:{self._port}/api", timeout=LIMIT_S)
        self.issuer = f"http://127.0.0.1:{self._port}/api/oidc"
        self.key = RSAKey.generate_key(2048, {"kid": "k1", "alg": "RS256", "use": "sig"}, private=True)

    def __enter__(self) -> Self:
        program = require("glewlwyd")
        self._folder.mkdir(parents=True)
        with sqlite3.connect(self._folder / "glewlwyd.db") as database:
            database.executescript(SCHEMA.read_text(encoding="utf-8"))
        database.close()
        config = self._folder / "glewlwyd.conf"
        config.write_text(CONFIG.format(port=self._port, folder=self._folder))
        with (self._folder / "out").open("wb") as out:
            self._process = subprocess.Popen([program, f"--config-file={config}"], stdout=out, stderr=out)
        try:
            self._set_up()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End it."""
        self._admin.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def user(self, name: str, groups: list[str]) -> None:
        """Somebody whom it knows."""
        self._ask(
            *("POST", "/user/"),
            {
                "username": name,
                "name": name,
                "password": PASSWORD,
                "enabled": True,
                "scope": ["openid", "g_profile"],
                "groups": groups,
            },
        )

    def regroup(self, name: str, groups: list[str]) -> None:
        """The same person in other groups."""
        self._ask("PUT", f"/user/{name}", {"name": name, "enabled": True, "scope": ["openid", "g_profile"], "groups": groups})

    def sign_in(self, name: str, sent_to: str) -> str:
        """What a browser does that was sent there and signs in as `name`: the address that it is sent back to."""
        with httpx.Client(timeout=LIMIT_S) as browser:
            api = self._admin.base_url
            entering = browser.post(f"{api}auth/", json={"username": name, "password": PASSWORD})
            assert entering.status_code == 200, entering.text
            browser.put(f"{api}auth/grant/{CLIENT}", json={"scope": "openid"}).raise_for_status()
            answer = browser.get(f"{sent_to}&g_continue")
        assert answer.status_code == 302, answer.text
        return str(answer.headers["location"])

    def _set_up(self) -> None:
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                self._ask("POST", "/auth/", {"username": "admin", "password": "password"})  # as the package makes it
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, (self._folder / "out").read_text()
                time.sleep(0.05)
        users = self._admin.get("/mod/user/database").json()
        users["parameters"]["data-format"]["groups"] = {"multiple": True, "read": True, "write": True}
        self._ask("PUT", "/mod/user/database", users)
        self._ask("PUT", "/mod/user/database/reset/", None)
        self._ask("POST", "/mod/plugin/", {"module": "oidc", "name": "oidc", "order_rank": 0, "parameters": self._plugin()})
        scope = {
            "display_name": "openid",
            "description": "Who it is",
            "password_required": True,
            "password_max_age": 0,
            "scheme": {},
        }
        self._ask("PUT", "/scope/openid", scope)
        us = {"client_id": CLIENT, "name": CLIENT, "enabled": True, "confidential": True, "password": SECRET, "scope": []}
        ways = {"authorization_type": ["code"], "token_endpoint_auth_method": ["client_secret_basic"]}
        self._ask("POST", "/client/", {**us, **ways, "redirect_uri": self._backs})

    def _plugin(self) -> dict[str, Any]:
        named = {"type": "string", "mandatory": True, "on-demand": False, "scope": []}
        claims = [
            {**named, "name": "groups", "user-property": "groups"},
            {**named, "name": "preferred_username", "user-property": "username"},
        ]
        return {
            "iss": self.issuer, "jwt-type": "rsa", "jwt-key-size": "256", "default-kid": "k1", "jwks-show": True,
            "jwks-private": json.dumps({"keys": [self.key.as_dict(private=True)]}),
            "access-token-duration": 3600, "refresh-token-duration": 3600, "code-duration": 600, "refresh-token-rolling": True,
            "allow-non-oidc": False, "auth-type-code-enabled": True, "auth-type-token-enabled": False,
            "auth-type-id-token-enabled": True, "auth-type-password-enabled": False, "auth-type-client-enabled": False,
            "auth-type-refresh-enabled": True, "subject-type": "public", "scope": [], "additional-parameters": [],
            "claims": claims, "name-claim": "no", "email-claim": "no", "scope-claim": "no", "pkce-allowed": True,
            "pkce-method-plain-allowed": False, "pkce-required": True, "pkce-scopes": [], "allowed-scope": ["openid"],
        }  # fmt: skip

    def _ask(self, method: str, path: str, body: Any) -> None:
        answer = self._admin.request(method, path, json=body)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
