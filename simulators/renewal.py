"""How a simulated device changes its certificate, as a maker's firmware would: nothing is given up before the next thing works.

new key ─► EST simplereenroll, showing the old certificate ─► its broker lets it in with the new one ─► files ─► confirm
"""

from __future__ import annotations

import ssl
from pathlib import Path

import aiohttp

from iotcore.errors import EnrolmentError
from simulators.enrol import REQUEST_LIMIT_S, Identity, made_key, own_certificate, request_for, store
from simulators.mqtt_link import MqttLink

OK = 200
CONFIRM = "/iotcore/v1/confirm"


async def rotate(device: MqttLink, url: str, identity: Identity, host: str, port: int) -> Identity:
    """Get another certificate from the EST listener at `url`, go over to it at the broker, then let the old one end.

    Raises:
        EnrolmentError: refused or unreachable; `not_taken` when the broker does not take it. The old one stays in use.
    """
    following = await renew(url, identity, device.device)
    if not await device.go_over(following.endpoint(host, port)):
        raise EnrolmentError("not_taken", f"the broker does not take the new certificate: {device.last_error}")
    for new, old in ((following.key_file, identity.key_file), (following.cert_file, identity.cert_file)):
        new.replace(old)
    device.met_by(identity.endpoint(host, port))
    await confirm(url, identity)
    return identity


async def renew(url: str, identity: Identity, device: str) -> Identity:
    """A new key and certificate beside those of `identity`; errors as `rotate`."""
    following = Identity(identity.ca_file, _beside(identity.cert_file), _beside(identity.key_file))
    following.key_file.unlink(missing_ok=True)
    key = made_key(following.key_file)
    headers = {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
    path = "/.well-known/est/simplereenroll"
    answer = await _post(url.rstrip("/") + path, request_for(device, key), headers, identity)
    store(following.cert_file, own_certificate(answer, key, device))
    return following


async def confirm(url: str, identity: Identity) -> None:
    """The broker has let us in with `identity`: what came before it may end; errors as `rotate`."""
    await _post(url.rstrip("/") + CONFIRM, b"", {}, identity)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.next{path.suffix}")


async def _post(url: str, body: bytes, headers: dict[str, str], shown: Identity) -> bytes:
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(shown.ca_file))
    context.load_cert_chain(shown.cert_file, shown.key_file)
    limit = aiohttp.ClientTimeout(total=REQUEST_LIMIT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.post(url, data=body, headers=headers, ssl=context, allow_redirects=False) as response,
        ):
            answer = await response.read()
            if response.status != OK:
                raise EnrolmentError(f"http_{response.status}", answer[:500].decode(errors="replace").strip())
            return answer
    except (aiohttp.ClientError, TimeoutError) as error:
        raise EnrolmentError("unreachable", f"{url}: {error}") from error
