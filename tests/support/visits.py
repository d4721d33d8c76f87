"""Visits to the console over HTTP, as browsers and programs make them."""

from __future__ import annotations

import json
from typing import Any

from quart.typing import TestClientProtocol as Client

from iotcore.registry import passwords
from tests.support.console import Console

PASSWORD = "ba con mèo trắng"
STORED = passwords.hashed(PASSWORD)
BROWSER = {"Host": "localhost", "Origin": "http://localhost", "Accept": "text/html"}
PROGRAM = {"Host": "localhost"}


async def signing_in(client: Client, name: str = "lan", password: str = PASSWORD, to: str = "/", **headers: str) -> Any:
    """The answer to a filled-in form."""
    form = {"name": name, "password": password, "to": to}
    return await client.post("/sign-in", form=form, headers={**BROWSER, **headers})


async def status(client: Client, path: str, **headers: str) -> int:
    """How a program's question is answered."""
    return int((await client.get(path, headers={**PROGRAM, **headers})).status_code)


def cookies_of(response: Any) -> dict[str, str]:
    """Name → the whole Set-Cookie line."""
    return {line.partition("=")[0]: line for line in response.headers.getlist("Set-Cookie")}


async def audited(made: Console, action: str) -> list[dict[str, Any]]:
    """Subject and details of the audit's entries of an action, oldest first."""
    entries = await made.registry.audit_entries()
    return [{"subject": one.deed.subject, **json.loads(one.deed.detail)} for one in entries if one.deed.action == action]
