"""Vendors' devices at a broker: who may log in with a password, and say what. Made from the registry.

    folder/vendors.json   what was last made of the registry, so that a broker that starts before the keeper knows it
    folder/passwords      user name → hash, in mosquitto_passwd's own format
    folder/acl-vendors    user name → the topics of its own devices, nothing else

The password listener has an acl of its own: who comes in there has no part in the contract's topics, whatever its name. On the
other listener nobody has a password, and only our lanes hear these topics.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from iotcore.provision.acl import BrokerName, acl_file
from iotcore.provision.files import SECRET_MODE, write_whole
from iotcore.registry import fresh, vendors
from iotcore.registry.directory import Directory
from iotcore.wire.topics import FIELD_DOMAINS, FIRE_DOMAIN

WATCHED = (ACL, VENDOR_ACL, PASSWORDS) = ("acl", "acl-vendors", "passwords")  # what a broker reads anew at SIGHUP
REMEMBERED = "vendors.json"
SECRET_BYTES = 18  # 144 bits, 24 characters: within what a web form of a device takes
SALT_BYTES = 12  # as mosquitto_passwd makes it
# mosquitto_passwd's own number. The secret is drawn, not chosen: stretching adds nothing, and the broker's one thread pays for it
# at each connection, and for every client at each SIGHUP.
ITERATIONS = 101


class VendorAccess(msgspec.Struct, frozen=True):
    """What one broker needs to know. `heard` are the lanes' filters; `says` has the topics of each user that has a password."""

    heard: tuple[str, ...] = ()
    says: dict[str, tuple[str, ...]] = {}
    hashes: dict[str, str] = {}


def new_secret() -> str:
    """A password for one device."""
    return fresh.secret(SECRET_BYTES)


def hashed(secret: str, salt: bytes | None = None) -> str:
    """A password as Mosquitto keeps it: PBKDF2 with SHA-512, `$7$iterations$salt$hash` (mosquitto_passwd(1))."""
    salt = salt or os.urandom(SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", secret.encode(), salt, ITERATIONS)
    return f"$7${ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def made(directory: Directory, credentials: Mapping[str, str], name: BrokerName) -> VendorAccess:
    """The access to broker `name`. `credentials` has the hash of each device that has a password.

    A device that is not accepted has no topics, and a user without topics is not let in.
    """
    domains = (FIRE_DOMAIN,) if name is BrokerName.FIRE else FIELD_DOMAINS
    says: dict[str, set[str]] = {}
    for binding in directory.devices.values():
        publisher = directory.devices.get(binding.publisher)
        if publisher is None or not (binding.accepted and publisher.accepted and publisher.device in credentials):
            continue
        if vendors.is_vendor(binding) and binding.domain in domains:
            says.setdefault(publisher.device, set()).update(vendors.topics_of(binding))
    return VendorAccess(
        vendors.filters(directory, domains),
        {user: tuple(sorted(topics)) for user, topics in sorted(says.items())},
        {user: credentials[user] for user in sorted(says)},
    )


def remembered(folder: Path) -> VendorAccess:
    """What was last written into a broker's folder; nobody, where nothing was or it cannot be read."""
    try:
        return msgspec.json.decode((folder / REMEMBERED).read_bytes(), type=VendorAccess)
    except (OSError, msgspec.DecodeError):
        return VendorAccess()


def contents(name: BrokerName, access: VendorAccess, *, passwords: bool) -> dict[str, str]:
    """The files of a broker, by name; `passwords`: it has a password listener."""
    files = {ACL: acl_file(name, access.heard), REMEMBERED: msgspec.json.encode(access).decode()}
    if passwords:
        files[VENDOR_ACL] = _acl(access)
        files[PASSWORDS] = "".join(f"{user}:{word}\n" for user, word in access.hashes.items())
    return files


def write(folder: Path, name: BrokerName, access: VendorAccess, *, passwords: bool) -> bool:
    """Write the files that differ; whether any did, so that the broker must read them anew.

    `passwords`: the broker has a password listener.
    """
    changed = False
    for file, content in contents(name, access, passwords=passwords).items():
        path = folder / file
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            write_whole(path, content.encode(), SECRET_MODE)  # 2.x warns of one that others can read
            changed = True
    return changed


def _acl(access: VendorAccess) -> str:
    lines = ["# Generated from the registry's bindings; changes here are lost."]
    for user, topics in access.says.items():
        lines += ["", f"user {user}", *(f"topic write {topic}" for topic in topics)]
    return "\n".join([*lines, ""])
