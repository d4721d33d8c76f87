"""Cutting a live session at Mosquitto: SIGHUP takes up a revocation list for new connections only, who is in stays in.

    folder/admin/admin.conf      a listener on loopback, included by mosquitto.conf
    folder/admin/sessions.json   the dynamic-security plugin's own file: the one user of that listener
    folder/cuts.json             whom the keeper wants out: which revocation → the name in the certificate

The plugin knows one listener, so acl and certificates hold at the others as they did. A client of a device's name is made,
disabled (which ends the session of that name) and deleted again: nothing of it stays, and only the revocation list keeps the
device out. Port and password are drawn anew at each start of the broker.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from iotcore.errors import IotError
from iotcore.provision.files import SECRET_MODE, make_folder, write_whole
from iotcore.provision.mosquitto import Form

FOLDER = "admin"
CUTS = "cuts.json"
LOOPBACK = "127.0.0.1"
MAX_CONNECTIONS = 4  # of the one client; a connection that hangs keeps nobody from making the next
USER = "svc.broker.1.admin"
SECRET_BYTES = 24  # 192 bits
SALT_BYTES = 12
ITERATIONS = 101  # mosquitto_passwd's own number; the secret is drawn, not chosen
LIMIT_S = 3.0  # for one connection, from its beginning to the answer
MAX_ANSWER_BYTES = 1_000_000
AT_ONCE = 500  # names in one command: far below the broker's largest packet
COMMANDS, ANSWERS = "$CONTROL/dynamic-security/v1", "$CONTROL/dynamic-security/v1/response"
DROPPED, CLIENTS = "$SYS/broker/publish/messages/dropped", "$SYS/broker/clients/connected"
EXISTS = "Client already exists"
CONNACK, PUBLISH, SUBACK = 0x20, 0x30, 0x90  # MQTT 3.1.1, 2.2.1: the upper four bits of a packet's first byte


class CutError(IotError):
    """A session could not be cut; it is tried again."""


@dataclass(frozen=True, slots=True)
class Door:
    """The listener through which sessions are cut."""

    port: int
    password: str


class _Answer(msgspec.Struct):
    command: str
    error: str = ""


class _Answers(msgspec.Struct):
    responses: list[_Answer]


def wanted(folder: Path) -> dict[str, str]:
    """Whom the keeper wants out: which revocation → name. Nobody where nothing was written or it cannot be read."""
    try:
        return msgspec.json.decode((folder / CUTS).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        return {}


def want(folder: Path, cuts: dict[str, str]) -> bool:
    """Say whom the broker is to put out; whether that differs from before."""
    content = msgspec.json.encode(cuts, order="sorted")
    path = folder / CUTS
    if path.exists() and path.read_bytes() == content:
        return False
    write_whole(path, content)
    return True


def make_door(folder: Path, form: Form) -> Door | None:
    """Write the listener's files, before the broker starts; None where the plugin is missing."""
    home = make_folder(folder / FOLDER)
    if form.sessions is None:
        (home / "admin.conf").unlink(missing_ok=True)
        return None
    with socket.socket() as probe:  # whoever takes it before the broker does makes the broker end, and the next start draws again
        probe.bind((LOOPBACK, 0))
        door = Door(probe.getsockname()[1], secrets.token_urlsafe(SECRET_BYTES))
    known_users = home.resolve() / "sessions.json"
    listener = [f"listener {door.port} {LOOPBACK}", f"max_connections {MAX_CONNECTIONS}"]
    users = f"plugin_opt_config_file {known_users}"
    if form.modern:
        loaded = f"plugin_load sessions {form.sessions}"
        lines = [loaded, users, *listener, "listener_allow_anonymous false", "plugin_use sessions", ""]
    else:
        lines = [*listener, "allow_anonymous false", f"plugin {form.sessions}", users, ""]
    write_whole(known_users, msgspec.json.encode(_users(door.password)), SECRET_MODE)
    write_whole(home / "admin.conf", "\n".join(lines).encode())
    return door


def _users(password: str) -> dict[str, object]:
    """The plugin's file: one user, who may say commands, hear answers and two figures; all else is denied on that listener."""
    salt = os.urandom(SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    kinds = ("publishClientSend", "publishClientReceive", "subscribePattern")
    figures = [{"acltype": kind, "topic": topic, "allow": True} for kind in kinds[1:] for topic in (DROPPED, CLIENTS)]
    return {
        "defaultACLAccess": dict.fromkeys(("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe"), False),
        "clients": [
            {
                "username": USER,
                "clientid": USER,
                "password": base64.b64encode(digest).decode(),
                "salt": base64.b64encode(salt).decode(),
                "iterations": ITERATIONS,
                "roles": [{"rolename": "admin"}],
            }
        ],
        "groups": [],
        "roles": [
            {
                "rolename": "admin",
                "acls": [{"acltype": kind, "topic": "$CONTROL/dynamic-security/#", "allow": True} for kind in kinds] + figures,
            }
        ],
    }


async def cut(door: Door, names: Sequence[str]) -> None:
    """End the sessions of these names; one that has none is no error.

    Raises:
        CutError: the broker did not do it; says why.
    """
    try:
        for first in range(0, len(names), AT_ONCE):
            async with asyncio.timeout(LIMIT_S):
                await _command(door, names[first : first + AT_ONCE])
    except (TimeoutError, OSError, asyncio.IncompleteReadError, msgspec.DecodeError) as error:
        raise CutError(f"the broker's admin listener on port {door.port}: {str(error) or type(error).__name__}") from error


async def _command(door: Door, names: Sequence[str]) -> None:
    verbs = ("createClient", "disableClient", "deleteClient")
    commands = [{"command": verb, "username": name} for name in names for verb in verbs]
    async with opened(door) as (reader, writer):
        subscribe(writer, ANSWERS)
        await read(reader, SUBACK)
        writer.write(_packet(PUBLISH, _text(COMMANDS) + msgspec.json.encode({"commands": commands})))
        body = await read(reader, PUBLISH)
        answers = msgspec.json.decode(body[2 + int.from_bytes(body[:2], "big") :], type=_Answers).responses
        failed = [f"{one.command}: {one.error}" for one in answers if one.error and one.error != EXISTS]
        if failed or len(answers) != len(commands):
            raise CutError(f"the broker did not cut: {failed[0] if failed else f'{len(answers)} answers of {len(commands)}'}")


@contextlib.asynccontextmanager
async def opened(door: Door) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the listener on loopback.

    Raises:
        CutError: it is another broker's.
        OSError, asyncio.IncompleteReadError: it is not there, or ends.
    """
    reader, writer = await asyncio.open_connection(LOOPBACK, door.port)
    try:
        hello = _text("MQTT") + b"\x04\xc2" + (60).to_bytes(2, "big") + _text(USER) + _text(USER) + _text(door.password)
        writer.write(_packet(0x10, hello))
        if (await read(reader, CONNACK))[1]:
            raise CutError(f"the broker's admin listener on port {door.port} does not know us; it is another broker's")
        yield reader, writer
        writer.write(b"\xe0\x00")  # DISCONNECT
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def subscribe(writer: asyncio.StreamWriter, *filters: str) -> None:
    """Subscribe at QoS 0."""
    writer.write(_packet(0x82, b"\x00\x01" + b"".join(_text(one) + b"\x00" for one in filters)))


async def read(reader: asyncio.StreamReader, kind: int) -> bytes:
    """The body of the next packet of this kind (MQTT 3.1.1, 2.2.3: seven bits of the length to a byte)."""
    while True:
        head, length = (await reader.readexactly(1))[0], 0
        for shift in (0, 7, 14, 21):
            byte = (await reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - the flag that another byte follows
                break
        if length > MAX_ANSWER_BYTES:
            raise CutError(f"the broker answers with {length} bytes")
        body = await reader.readexactly(length)
        if head & 0xF0 == kind:
            return body


def _packet(head: int, body: bytes) -> bytes:
    length, left = bytearray(), len(body)
    while True:
        left, byte = divmod(left, 0x80)
        length.append(byte | (0x80 if left else 0))
        if not left:
            return bytes([head, *length]) + body


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded
