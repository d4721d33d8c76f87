"""Registry: who is where, who may speak, what people want. A mutation commits with its audit entry and change, or not at all.

Several processes open the same registry; the lanes read it as a Directory and poll `changes_after` to know when to read it again.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast, get_args

from iotcore.clock import Clock, SystemClock
from iotcore.errors import ConfigError, Problem, Refused
from iotcore.registry import (
    audit,
    bulk,
    city,
    credentials,
    directories,
    endings,
    judging,
    kinds,
    standings,
    states,
    supersede,
    tokens,
    trail,
)
from iotcore.registry import draft as drafts
from iotcore.registry.database import Database, connect, whole
from iotcore.registry.directory import Directory
from iotcore.registry.records import NEXT_STATES, Certificate, Change, Imported, Intent, IntentKind, Standing, State
from iotcore.registry.tables import (
    ID_LENGTH,
    KEY_LENGTH,
    TEXT_LENGTH,
    CertificateRow,
    ChangeRow,
    CredentialRow,
    DeviceRow,
    IntentRow,
)
from iotcore.specs.model import DeviceSpec

POLL_LIMIT = 1000  # rows a poll returns at most; the next poll goes on
log = logging.getLogger(__name__)


class Registry:
    """An open registry; `open_registry` makes one. All methods raise StoreError when the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    @property
    def database(self) -> Database:
        """For what has functions or a class of its own over it: people, sessions, approvals, places, commissioning."""
        return self._database

    async def close(self) -> None:
        await self._database.close()

    @whole
    async def import_city(self, document: Any, specs: Mapping[str, DeviceSpec], by: str) -> Imported:
        """Add or change what the document names, in one transaction; the same document again changes nothing.

        What it does not say of an entry that is there stays. For more than a few thousand entries: `intake.run`.

        Raises:
            ConfigError: with every problem of the document; nothing is stored.
        """
        draft = drafts.from_document(document, "city")
        async with self._database.writing() as work:
            judged = await judging.judge(work.db, draft, specs)
            judged.insist("city")
            outcome = await bulk.store(work, judged.wanted, by)
            return Imported(outcome.added, outcome.changed, sum(kind.same for kind in judged.outcome.values()))

    async def add_premises(self, entry: city.PremisesEntry, by: str) -> None:
        """Register a building; raises ConfigError."""
        await self._add(city.City(premises=[entry]), {}, by)

    async def add_zone(self, entry: city.ZoneEntry, by: str) -> None:
        """Register a zone of a known building; raises ConfigError."""
        await self._add(city.City(zones=[entry]), {}, by)

    async def add_device(self, entry: city.DeviceEntry, specs: Mapping[str, DeviceSpec], by: str) -> None:
        """Register a device of a known model; raises ConfigError with all that is wrong with it."""
        await self._add(city.City(devices=[entry]), specs, by)

    @whole
    async def _add(self, entries: city.City, specs: Mapping[str, DeviceSpec], by: str) -> None:
        """Like an import of one entry, but it must be new."""
        checked = city.read(bulk.plain(entries))
        async with self._database.writing() as work:
            outcome = await bulk.merge(work, checked, specs, by)
            if not outcome.added:
                ids = [*(p.id for p in entries.premises), *(z.id for z in entries.zones), *(d.id for d in entries.devices)]
                raise ConfigError([Problem("registry", one, "is already registered") for one in ids])

    @whole
    async def set_state(self, device: str, state: State, by: str) -> bool:
        """Move a device along its life; False when it is there already.

        Raises:
            Refused: `unknown_device`, `unknown_state` or `transition`.
        """
        if state not in get_args(State):
            raise Refused("unknown_state", f"{state!r}; there are: {', '.join(NEXT_STATES)}")
        async with self._database.reading() as db:  # most calls find it done: no lock for those
            row = await DeviceRow.get_or_none(id=device, using_db=db)
        if row is not None and row.state == state:
            return False
        async with self._database.writing() as work:
            return await states.move(work, device, state, by)

    @whole
    async def activate(self, device: str, by: str) -> bool:
        """A provisioned device has spoken: make it active. False for any other state: no reading ends a suspension."""
        async with self._database.reading() as db:
            row = await DeviceRow.get_or_none(id=device, using_db=db)
        if row is None or row.state != "provisioned":
            return False
        async with self._database.writing() as work:
            return await states.move_from(work, device, "provisioned", "active", by)

    @whole
    async def note(self, by: str, action: str, subject: str, detail: str = "") -> None:
        """Audit something that changes no row, such as a refused enrolment."""
        async with self._database.writing() as work:
            work.note(by, action, subject, detail=detail)

    @whole
    async def create_token(self, device: str, ttl_s: float, by: str = "operator") -> str:
        """A claim token for one enrolment of one device: 128 bits, shown here and never again.

        Raises:
            Refused: `unknown_device`, or `not_enrollable` for one that is suspended or retired.
        """
        async with self._database.writing() as work:
            return await tokens.create(work, device, ttl_s, by)

    @whole
    async def record_certificate(self, certificate: Certificate, by: str) -> None:
        """Keep an issued certificate; a registered device becomes provisioned by it, and loses its password if it had one."""
        async with self._database.writing() as work:
            await states.certify(work, certificate, by)
            await credentials.remove(work, certificate.cn, by)

    @whole
    async def keep_credential(self, device: str, hashed: str, by: str) -> None:
        """Give a vendor's device a password, kept as a broker's hash, in place of the one before; raises Refused."""
        async with self._database.writing() as work:
            await credentials.keep(work, device, hashed, by)

    @whole
    async def revoke_credential(self, device: str, by: str) -> bool:
        """Take a device's password away; False when it has none."""
        async with self._database.writing() as work:
            return await credentials.remove(work, device, by)

    async def credentials(self) -> dict[str, str]:
        """Device → hash of its password."""
        async with self._database.reading() as db:
            return {row.device_id: row.hash for row in await CredentialRow.all().using_db(db)}

    @whole
    async def revoke_certificate(self, serial: str, by: str) -> bool:
        """Mark a certificate as revoked; False when it is unknown or was revoked before."""
        async with self._database.writing() as work:
            return await states.revoke(work, serial, by)

    async def confirm_certificate(self, serial: str, by: str) -> list[str]:
        """This certificate has connected: those of its name before it are superseded; which. Raises Refused."""
        async with self._database.reading() as db:  # a device says so at each start, and mostly nothing is to be done
            if not await supersede.older(db, serial):
                return []
        return await self._confirm(serial, by)

    @whole
    async def _confirm(self, serial: str, by: str) -> list[str]:
        async with self._database.writing() as work:
            return await supersede.confirm(work, serial, by)

    async def certificates(self, cn: str = "") -> list[Certificate]:
        """Issued certificates, newest first; of one device or service, or all."""
        async with self._database.reading() as db:
            return await standings.certificates(db, cn)

    async def has_certificate(self, serial: str) -> bool:
        """Whether a certificate of this serial was ever recorded."""
        async with self._database.reading() as db:
            return await CertificateRow.filter(serial=serial).using_db(db).exists()

    async def refuses_certificate(self, serial: str) -> bool:
        """Whether it is marked as revoked or superseded: who stole its key must not renew it while the keeper is busy or down."""
        async with self._database.reading() as db:
            return await standings.refuses(db, serial)

    async def certificates_ending(self, until_ms: int) -> list[endings.Ending]:
        """Whose last certificate runs out before `until_ms`, or has; the first first."""
        async with self._database.reading() as db:
            return await endings.before(db, until_ms)

    async def standings(self, serials: Collection[str]) -> list[Standing]:
        """Certificates in time that are revoked, superseded, or of a suspended or retired device; and those of `serials`."""
        async with self._database.reading() as db:
            return await standings.read(db, self._database.now_ms(), serials)

    @whole
    async def intent(self, kind: IntentKind, key: str, by: str, address: str = "", body: str = "") -> int:
        """Ask the fire lane for an act on incident or alarm `key`, or a lane to retry or drop rows of its quarantine.

        `send` and `withhold` decide on the notices of an incident that a restore has parked. `body`: JSON, what is said besides.

        Asked twice is asked once. Returns the intent's id. `address` is where `by` asked from, for the audit.

        Raises:
            Refused: `unknown_intent`, or `too_long` for a key that names too many rows.
        """
        if kind not in get_args(IntentKind):
            raise Refused("unknown_intent", f"{kind!r}; there are: {', '.join(get_args(IntentKind))}")
        if len(key) > KEY_LENGTH or len(body) > TEXT_LENGTH:
            raise Refused("too_long", f"{len(key)} characters of at most {KEY_LENGTH}; name fewer rows, or a filter")
        of_rows = kind in {"retry", "drop"}
        async with self._database.writing() as work:
            row = await IntentRow.get_or_none(kind=kind, key=key, using_db=work.db)
            if row is None:
                row = await IntentRow.create(using_db=work.db, kind=kind, key=key, by=by, at_ms=work.now_ms, body=body)
                if of_rows:
                    work.note(by, f"quarantine.{kind}", f"intent {row.id}", rows=key)
                else:
                    about = "alarm" if kind in {"shelve", "unshelve"} or key.startswith("alarm/") else "incident"
                    more = {"address": address, "said": body}
                    work.note(by, f"{about}.{kind}", key, **{name: text for name, text in more.items() if text})
                work.changed("intent", str(row.id) if of_rows else key[:ID_LENGTH])
            return int(row.id)

    async def intents_after(self, cursor: int) -> list[Intent]:
        """Intents with a larger id, oldest first, at most `POLL_LIMIT`."""
        async with self._database.reading() as db:
            rows = await IntentRow.filter(id__gt=cursor).using_db(db).order_by("id").limit(POLL_LIMIT)
        return [Intent(row.id, cast("IntentKind", row.kind), row.key, row.by, row.at_ms, row.body) for row in rows]

    async def changes_after(self, cursor: int) -> list[Change]:
        """Changes with a larger id, oldest first, at most `POLL_LIMIT`."""
        async with self._database.reading() as db:
            rows = await ChangeRow.filter(id__gt=cursor).using_db(db).order_by("id").limit(POLL_LIMIT)
        return [Change(row.id, row.kind, row.key, row.at_ms) for row in rows]

    async def last_change(self) -> int:
        """The cursor that a reader of everything starts to poll from; take it before reading."""
        async with self._database.reading() as db:
            row = await ChangeRow.all().using_db(db).order_by("-id").first()
        return row.id if row is not None else 0

    async def document(self, of: Iterable[str] = kinds.KINDS) -> dict[str, list[kinds.Fields]]:
        """The city document that would make these kinds as they are, each by id."""
        async with self._database.reading() as db:
            return await kinds.document(db, of)

    async def devices_of_serial(self, serial: str) -> list[str]:
        """The devices whose unit has this serial number: one of each model at most."""
        async with self._database.reading() as db:
            return sorted(row[0] for row in await kinds.rows(db, kinds.DEVICES, ("id",), [serial], "serial")) if serial else []

    async def directory(self, specs: Mapping[str, DeviceSpec]) -> Directory:
        """Everything the lanes need, in memory. A device without a spec is left out and logged: it must not stop the others."""
        async with self._database.reading() as db:
            return await directories.whole(db, specs)

    async def directory_after(self, known: Directory, changes: Sequence[Change], specs: Mapping[str, DeviceSpec]) -> Directory:
        """The directory `known` with what `changes` name read anew."""
        async with self._database.reading() as db:
            return await directories.patched(db, known, changes, specs)

    async def audit_entries(self, after: int = 0, limit: int = POLL_LIMIT) -> list[audit.Entry]:
        """Audit entries with a larger number, oldest first."""
        async with self._database.reading() as db:
            return await trail.page(db, after, limit)

    async def audit_trail(self, wanted: trail.Wanted, last: int = 0) -> AsyncIterator[audit.Entry]:
        """The audit entries that are wanted, oldest first: the last so many of them, or all with 0. Bounded memory."""
        async with self._database.reading() as db:
            after = await trail.before_last(db, last, wanted) if last else 0
            async for entry in trail.pages(db, after, wanted):
                yield entry

    async def audit_head(self) -> audit.Head:
        """The end of the audit chain."""
        async with self._database.reading() as db:
            return await trail.head(db)

    async def audit_holds(self, known: audit.Head) -> bool:
        """Whether the chain still holds what was its end once."""
        async with self._database.reading() as db:
            return await trail.holds(db, known)

    async def verify_audit(self, heads: Iterable[audit.Head] = ()) -> list[audit.Break]:
        """Check the whole chain, against heads that were exported of it; an empty list means that nothing was changed."""
        async with self._database.reading() as db:
            return await trail.verify(db, heads)


async def open_registry(url: str, clock: Clock | None = None) -> Registry:
    """Open the registry at a tortoise URL (`sqlite:///path/registry.db`, `postgres://…`) and make its tables when missing.

    Raises:
        StoreFull: the disk has no room for it; the same call succeeds once there is some.
        StartError: the database is not there or cannot be written.
    """
    return Registry(await connect(url, clock or SystemClock()))
