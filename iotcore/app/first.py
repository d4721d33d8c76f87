"""The first admin: while nobody can sign in, a link that makes one lies in the data folder; there is no default password."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TextIO

from iotcore.errors import Refused
from iotcore.provision.files import SECRET_MODE, write_whole
from iotcore.registry.accounts import Accounts
from iotcore.settings import Settings

FILE = "first-link"
LASTS_S = 3600.0
POLL_S = 0.2
log = logging.getLogger(__name__)


def page_url(settings: Settings) -> str:
    """Where the page is for somebody at this machine, or behind its proxy."""
    if settings.web.names:
        return f"https://{settings.web.names[0]}"
    host = "127.0.0.1" if settings.web.host in {"0.0.0.0", "::"} else settings.web.host  # noqa: S104 - compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.web.port}"


async def link(settings: Settings, accounts: Accounts, user: str, ttl_s: float, by: str) -> str:
    """A link that signs `user` in, once; "" makes the first admin. Raises Refused."""
    secret = await accounts.sessions.make_link(user, ttl_s, by)
    return f"{page_url(settings)}/{'link' if user else 'first'}/{secret}"


async def keep_link(settings: Settings, accounts: Accounts) -> None:
    """While there is no user, keep a link in the data folder, readable for its owner; the log says where, not what."""
    path = settings.folder / FILE
    if await accounts.people.anybody():
        forget(settings)
        return
    try:
        made = await link(settings, accounts, "", LASTS_S, "web")
    except Refused:  # somebody was quicker
        return
    await asyncio.to_thread(write_whole, path, f"{made}\n".encode(), SECRET_MODE)
    log.warning(
        "nobody can sign in yet: open the link that %s holds, within an hour; `iotcore user link` makes another", path.absolute()
    )


async def tell(settings: Settings, since_ms: float, out: TextIO) -> None:
    """Show a terminal the link that the web process makes after `since_ms`; where it makes none, do nothing, until cancelled."""
    path = settings.folder / FILE
    while out.isatty():
        with suppress(OSError):
            if path.stat().st_mtime * 1000.0 >= since_ms:
                out.write(f"Nobody can sign in yet. Within an hour, open {path.read_text(encoding='utf-8').strip()}\n")
                out.flush()
                return
        await asyncio.sleep(POLL_S)


def forget(settings: Settings) -> None:
    """There is a user now."""
    (settings.folder / FILE).unlink(missing_ok=True)
