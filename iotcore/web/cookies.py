"""Cookies: which, for how long, and that no script reads them and no other site sends them."""

from __future__ import annotations

from urllib.parse import urlsplit

from quart import Response, request

from iotcore.registry.sessions import BROWSER_KNOWN_MS, From, Opened

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
SESSION, BROWSER = "session", "browser"


def is_safe_line() -> bool:
    """Whether cookies of the request at hand cannot be read on their way: TLS (at a proxy), or loopback."""
    return request.scheme == "https" or (urlsplit(f"//{request.host}").hostname or "") in LOOPBACK_NAMES


def name_of(cookie: str) -> str:
    """The browser itself keeps a __Host- cookie to this host and to TLS (RFC 6265bis, 4.1.3.2)."""
    return f"__Host-{cookie}" if request.scheme == "https" else cookie


def secret(cookie: str) -> str:
    """What a cookie of the request at hand holds; "" where it could have been read on its way."""
    return request.cookies.get(name_of(cookie), "") if is_safe_line() else ""


def put(response: Response, cookie: str, value: str, max_age_s: int | None = None, same_site: str = "Strict") -> None:
    """Set one; without `max_age_s` it ends with the browser."""
    response.set_cookie(
        name_of(cookie), value, max_age=max_age_s, path="/", secure=request.scheme == "https", httponly=True, samesite=same_site
    )


def drop(response: Response, cookie: str) -> None:
    """Take one away."""
    response.delete_cookie(name_of(cookie), path="/", secure=request.scheme == "https", httponly=True, samesite="Strict")


def signed_in(response: Response, opened: Opened, lasts_s: int) -> Response:
    """Give a new session to the browser, and a name by which it is known again."""
    put(response, SESSION, opened.session, lasts_s)
    put(response, BROWSER, opened.browser, BROWSER_KNOWN_MS // 1000)
    return response


def origin() -> From:
    """Where the request at hand comes from."""
    return From(request.remote_addr or "?", request.headers.get("User-Agent", ""), secret(BROWSER))


def local(target: str) -> str:
    """An address of ours to go on to, or the first page: never another site, whatever a browser makes of it."""
    ours = target.startswith("/") and target[1:2] not in {"/", "\\"} and "\\" not in target and target.isprintable()
    return target if ours and " " not in target else "/"
