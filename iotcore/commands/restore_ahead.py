"""What a restore moves ahead, in the staged folder: lists, numbers, ids, tokens, the audit; and what it has to tell people."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from iotcore.app import audit_heads
from iotcore.backup.manifest import Manifest
from iotcore.clock import Clock
from iotcore.errors import StartError
from iotcore.journal import parked
from iotcore.journal.database import connect_readonly
from iotcore.journal.journal import Journal
from iotcore.process import home
from iotcore.process.credentials import environment
from iotcore.provision import custody, heads, restored
from iotcore.provision.ca import Authority
from iotcore.provision.files import make_folder
from iotcore.registry import restored as registry_restored
from iotcore.settings import Settings

MAX_NAMES = 20  # in a line for people; the JSON has them all


VOID = {
    "claim_token": "TOKENS are void (iotcore token create DEVICE) of",
    "batch_token": "TOKENS are void (iotcore token batch makes another) of the batches",
    "claim": "UNITS that had not enrolled must be bound again (iotcore token bind) at",
    "sign_in_link": "LINKS to sign in are void of",
    "session": "SESSIONS have ended of",
    "api_token": "API TOKENS are revoked of",
}


class Places(NamedTuple):
    """Where things are while they are moved ahead.

    `schema`: the URL of the staged registry on PostgreSQL. Newer than the backup: `old`, the folder that was there before;
    `crls`, lists that a person has named; `exported`, a file of heads.
    """

    settings: Settings
    staging: Path
    schema: str
    old: Path | None
    crls: Sequence[Path]
    exported: Path | None


class Moved(NamedTuple):
    """What was moved ahead, and what is left to a person. `line` is the signed head of the new beginning."""

    audit_after: int
    audit_entry: int
    voided: dict[str, list[str]]
    suspended: list[str]
    revoked: list[str]
    parked: list[parked.Parked]
    channels: dict[str, int]
    lists: int
    without_certificate: list[str]
    line: heads.SignedHead

    def lines(self, since: str) -> list[str]:
        """For people; `since` is when the backup was made."""
        said = [f"audit: entries after {self.audit_after} are lost; it goes on at {self.audit_entry}, signed"]
        said += [f"number of {name}: goes on after {number}" for name, number in self.channels.items()]
        said += [f"{VOID.get(table, table)}: {_names(names)}" for table, names in self.voided.items()]
        for one in self.parked:
            said.append(
                f"NOT SENT: {one.incident} {one.event} → {one.channel}: decide with `iotcore notice send|drop {one.incident}`"
            )
        if self.lists:
            said.append(f"{self.lists} newer revocation lists were added")
            said += [f"SUSPENDED by them: {_names(self.suspended)}"] if self.suspended else []
            said += [f"REVOKED by them: {_names(self.revoked)}"] if self.revoked else []
        else:
            said.append(f"REVOCATIONS made since {since} are not known: make them again, or restore anew with --crl FILE")
        said.append(f"passwords, roles and disabled users are those of {since}: look at them (iotcore user list)")
        said.append(f"certificates issued since {since} still let their devices in; each is recorded when it is renewed")
        if self.without_certificate:
            said.append(
                f"LOOK at {_names(self.without_certificate)}: without a certificate then; if they connect, they have one by now"
            )
        return said


def move(backup: str, manifest: Manifest, places: Places, clock: Clock) -> Moved:
    """Move everything ahead in the staged folder and schema.

    Raises:
        StartError: the authority's passphrase is another, or a list is not ours.
        StoreError: a database could not be written.
    """
    settings, staging = places.settings, places.staging
    ca = staging / "ca"
    secret = custody.passphrase(ca, environment(os.environ))
    authority = Authority.open(ca, secret, clock, home.crl_url(settings))
    newer = restored.carry_forward(authority, places.crls, _lists(places.old), clock)
    journal = _journal(staging, places.old, clock)
    signer = heads.Signer.ensure(audit_heads.key_folder(settings), secret)
    file = staging / "audit" / "heads" / heads.HEADS_FILE
    known = _exported(places, file, signer)
    url = places.schema or f"sqlite://{staging / 'registry.db'}"
    gap = asyncio.run(registry_restored.leave_gap(url, clock, backup, manifest.at_ms, known))
    outcome = asyncio.run(registry_restored.carry_forward(url, clock, newer.revoked))
    line = signer.sign(gap.entry, clock.wall_ms(), gap.after)
    heads.append(make_folder(file.parent) / file.name, line)
    return Moved(
        audit_after=gap.after.seq,
        audit_entry=gap.entry.seq,
        voided=outcome.voided,
        suspended=outcome.suspended,
        revoked=outcome.revoked,
        parked=journal[0],
        channels=journal[1],
        lists=newer.lists,
        without_certificate=outcome.uncertified,
        line=line,
    )


def _lists(old: Path | None) -> list[Path]:
    """Revocation lists that the old folder still has: the authority's and the brokers' copies."""
    return sorted([*old.glob("ca/**/crl.pem"), *old.glob("broker/*/crl.pem")]) if old else []


def _journal(staging: Path, old: Path | None, clock: Clock) -> tuple[list[parked.Parked], dict[str, int]]:
    path = staging / "journal.db"
    if not path.exists():
        return [], {}
    with closing(Journal(path, clock, ())) as journal:
        found = parked.carry_forward(journal, _numbers(old / "journal.db") if old else {})
        numbers = dict(journal.connection.execute("SELECT channel, number FROM channel_number ORDER BY channel").fetchall())
        journal.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return found, numbers


def _numbers(old: Path) -> dict[str, int]:
    """The numbers that an old journal has come to; none when it cannot be read."""
    try:
        with closing(connect_readonly(old)) as connection:
            return {row[0]: row[1] for row in connection.execute("SELECT channel, number FROM channel_number")}
    except sqlite3.Error:
        return {}


def _exported(where: Places, file: Path, signer: heads.Signer) -> int:
    """The last audit number that a signed head knows of. An old file of heads that has more of them replaces the restored one."""
    key, settings, old, given = signer.key.public_key(), where.settings, where.old, where.exported
    known = heads.read(file, key).heads if file.exists() else []
    places = [given] if given else []
    places += [settings.heads_folder / heads.HEADS_FILE] if settings.audit.folder else []
    for path in [path for path in places if path.exists()]:
        known = [*known, *heads.read(path, key).heads]
    if given and not given.exists():
        raise StartError(f"{given} cannot be read", "Name a file of exported heads.")
    left = old / "audit" / "heads" / heads.HEADS_FILE if old else None
    if left is not None and left.exists():
        more = heads.read(left, key).heads
        if len(more) > (len(heads.read(file, key).heads) if file.exists() else 0):
            make_folder(file.parent)
            shutil.copyfile(left, file)
        known = [*known, *more]
    return max((head.seq for head in known), default=0)


def _names(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
