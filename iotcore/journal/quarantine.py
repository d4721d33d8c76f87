"""Quarantine: what could not be used, kept for a person to see, mend and try again; both lanes keep theirs in their own file.

    refusal ──► a row with its whole payload            at most ROWS_A_MINUTE for one culprit
            └─► beyond that: one summarising row for a reason and an hour, which counts (`more`)
    always  ──► quarantine_count by reason, which never forgets

Bounded three ways, each at the cost of the oldest: rows of one culprit, all rows, all bytes. A culprit is the device, where it is
one that may speak here, else the certificate that published: nobody fills the quarantine for others by inventing names.
All functions run inside the caller's transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from iotcore.journal.database import Connection, Place
from iotcore.journal.upgrade import statements
from iotcore.wire.arrival import Refusal

MAX_ROWS = 10_000
MAX_BYTES = 64 * 1024 * 1024  # of payloads: a thousand of the largest
MAX_ROWS_OF_ONE = 500
ROWS_A_MINUTE = 20  # of one culprit: enough to see what is wrong with it
SUMMARY_MS = 3_600_000.0  # one summarising row of a reason counts so long
MINUTE_MS = 60_000.0
MAX_PAYLOAD_BYTES = 64 * 1024  # a whole legal payload (wire contract); what is longer is cut and cannot be tried again
MAX_TEXT = 500  # characters of a topic or a detail: MQTT allows topics of 64 KiB
MAX_ANSWERS = 1_000
STORE_REJECTED = "store_rejected"  # the payload is a line that was acknowledged: never only counted
BY_PUBLISHER = ("unknown_device", "wrong_domain", "wrong_publisher", "not_accepted", "topic")  # who named another, or nobody

SCHEMA = """
CREATE TABLE IF NOT EXISTS quarantine (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms       DOUBLE PRECISION NOT NULL,
    reason      TEXT NOT NULL,
    detail      TEXT NOT NULL,
    topic       TEXT NOT NULL,
    device      TEXT NOT NULL,
    payload     BLOB NOT NULL,
    size        INTEGER NOT NULL,             -- bytes that came; more than are kept when it was oversized
    culprit     TEXT NOT NULL DEFAULT '',
    received_ms DOUBLE PRECISION NOT NULL DEFAULT 0,
    identities  TEXT NOT NULL DEFAULT '[]',   -- [[boot, seq], …] that count as handled; only a retry of this row stores them
    more        INTEGER NOT NULL DEFAULT 0,   -- of a summarising row: how many it stands for
    kept_by     TEXT NOT NULL DEFAULT ''      -- of several processes: "[fire-1]" for each that has refused it
);
CREATE TABLE IF NOT EXISTS quarantine_count (
    reason TEXT PRIMARY KEY,
    count  INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS quarantine_answer (  -- what became of a person's retry or drop
    intent INTEGER PRIMARY KEY,
    answer TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS fault (
    device     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    first_ms   DOUBLE PRECISION NOT NULL,
    last_ms    DOUBLE PRECISION NOT NULL,
    count      INTEGER NOT NULL,
    cleared_ms DOUBLE PRECISION,
    PRIMARY KEY (device, reason)
);
CREATE TABLE IF NOT EXISTS progress (
    device TEXT NOT NULL,
    boot   TEXT NOT NULL,
    up_to  INTEGER NOT NULL,
    above  TEXT NOT NULL,
    lost   INTEGER NOT NULL,
    PRIMARY KEY (device, boot)
);
"""

_ADDED = (  # columns that files of the first version do not have
    ("culprit", "TEXT NOT NULL DEFAULT ''"),
    ("received_ms", "REAL NOT NULL DEFAULT 0"),
    ("identities", "TEXT NOT NULL DEFAULT '[]'"),
    ("more", "INTEGER NOT NULL DEFAULT 0"),
    ("kept_by", "TEXT NOT NULL DEFAULT ''"),
)
_BOUNDS = """
CREATE INDEX IF NOT EXISTS quarantine_by_culprit ON quarantine (culprit, at_ms, more);
CREATE TABLE IF NOT EXISTS quarantine_kept (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    rows  INTEGER NOT NULL,
    bytes INTEGER NOT NULL
);
INSERT INTO quarantine_kept SELECT 1, count(*), coalesce(sum(length(payload)), 0) FROM quarantine WHERE true
ON CONFLICT DO NOTHING;
CREATE TRIGGER IF NOT EXISTS quarantine_in AFTER INSERT ON quarantine BEGIN
    UPDATE quarantine_kept SET rows = rows + 1, bytes = bytes + length(NEW.payload);
END;
CREATE TRIGGER IF NOT EXISTS quarantine_out AFTER DELETE ON quarantine BEGIN
    UPDATE quarantine_kept SET rows = rows - 1, bytes = bytes - length(OLD.payload);
END;
"""
BOUNDS_POSTGRES = """
CREATE INDEX IF NOT EXISTS quarantine_by_culprit ON quarantine (culprit, at_ms, more);
CREATE TABLE IF NOT EXISTS quarantine_kept (id INTEGER PRIMARY KEY CHECK (id = 1), rows INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO quarantine_kept SELECT 1, count(*), coalesce(sum(length(payload)), 0) FROM quarantine ON CONFLICT DO NOTHING;
CREATE OR REPLACE FUNCTION quarantine_counted() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN IF TG_OP = ''INSERT'' THEN UPDATE quarantine_kept SET rows = rows + 1, bytes = bytes + length(NEW.payload);
 ELSE UPDATE quarantine_kept SET rows = rows - 1, bytes = bytes - length(OLD.payload); END IF; RETURN NULL; END';
CREATE OR REPLACE TRIGGER quarantine_in AFTER INSERT OR DELETE ON quarantine
FOR EACH ROW EXECUTE FUNCTION quarantine_counted();
"""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the quarantine."""

    id: int
    at_ms: float
    reason: str
    detail: str
    topic: str
    device: str
    payload: bytes
    size: int
    received_ms: float
    identities: tuple[tuple[str, int], ...]
    more: int

    @property
    def truncated(self) -> bool:
        """Whether less than what came was kept."""
        return len(self.payload) < self.size

    @property
    def unfit(self) -> str:
        """Why this row cannot be tried again, in words; "" when it can."""
        if self.more:
            return f"it stands for {self.more} messages that were only counted"
        if self.truncated:
            return f"only {len(self.payload)} of its {self.size} bytes were kept"
        if self.reason == "retained":
            return "a retained message is of an age that nobody knows"
        return ""


class Wanted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which rows of one lane a person means: by number, or all that fit every filter that is given."""

    lane: str = ""
    ids: tuple[int, ...] = ()
    device: str = ""
    reason: str = ""
    since_ms: float = 0.0
    up_to: int = 0  # rows that came after the person looked are not meant; 0: all
    asked_ms: int = 0  # tells two equal requests apart


def prepare(connection: Connection) -> None:
    """Make the tables, or complete those of an earlier version; outside a transaction."""
    for statement in statements(SCHEMA):
        connection.execute(statement)
    known = {row[1] for row in connection.execute("PRAGMA table_info(quarantine)")}
    for column, kind in _ADDED:
        if column not in known:
            connection.execute(f"ALTER TABLE quarantine ADD COLUMN {column} {kind}")
    for statement in statements(_BOUNDS):
        connection.execute(statement)


def lane_of(path: Place) -> str:
    """Which lane keeps a file: fire, telemetry, or telemetry-N where there are several workers."""
    if isinstance(path, str) or path.name == "journal.db":
        return "fire"
    worker = path.stem.partition("-")[2]
    return "telemetry" if worker == "1" else f"telemetry-{worker}"


def keep(
    connection: Connection,
    refusals: Iterable[Refusal],
    at_ms: float,
    *,
    limited: bool = True,
    by: str | None = None,
    counts: bool = True,
) -> None:
    """Count refused messages by reason, store what one culprit may store, and drop the oldest beyond the bounds.

    Not `limited` are those that a person has just tried again: each goes back as a row. Of several processes each says who it is
    (`by`, see `twice`), and what is only counted is counted by one of them.
    """
    room: dict[str, int] = {}
    kept: list[tuple[object, ...]] = []
    spare: dict[str, list[Refusal]] = {}
    seen: Counter[str] = Counter()
    for refusal in refusals:
        name = culprit(refusal)
        if name not in room:
            room[name] = _room(connection, name, at_ms) if limited and name != STORE_REJECTED else MAX_ROWS
        room[name] -= 1
        if room[name] >= 0:
            kept.append((*_columns(refusal, name, at_ms), f"[{by}]" if by else ""))
            seen[refusal.reason] += 1
        elif counts:
            seen[refusal.reason] += 1
            spare.setdefault(name, []).append(refusal)
    if not seen:
        return
    connection.executemany(
        "INSERT INTO quarantine_count (reason, count) VALUES (?, ?) "
        "ON CONFLICT (reason) DO UPDATE SET count = quarantine_count.count + excluded.count",
        list(seen.items()),
    )
    connection.executemany(
        "INSERT INTO quarantine (at_ms, reason, detail, topic, device, payload, size, culprit, received_ms, identities, kept_by) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        kept,
    )
    for name, its in spare.items():
        _summarise(connection, name, its, at_ms)
    for name in room.keys() - {STORE_REJECTED}:
        _trim_one(connection, name)
    _trim(connection)


def culprit(refusal: Refusal) -> str:
    """Whose fault a refusal is, for the bounds."""
    if refusal.reason == STORE_REJECTED:
        return STORE_REJECTED
    if refusal.device and not refusal.reason.startswith(BY_PUBLISHER):
        return refusal.device
    parts = refusal.topic.split("/", 4)
    return (parts[3] if len(parts) == 5 else parts[0])[:MAX_TEXT]  # noqa: PLR2004 - iot/v1/domain/publisher/…


def found(connection: Connection, wanted: Wanted, limit: int, *, after: int = 0, newest: bool = False) -> list[Row]:
    """Rows with larger numbers than `after`, oldest first, or the newest first."""
    chosen, values = _where(wanted)
    rows = connection.execute(
        "SELECT id, at_ms, reason, detail, topic, device, payload, size, received_ms, identities, more FROM quarantine "  # noqa: S608
        f"WHERE {chosen} AND id > ? ORDER BY id {'DESC' if newest else 'ASC'} LIMIT ?",
        (*values, after, limit),
    )
    return [
        Row(**dict(zip(Row.__struct_fields__, (*row[:9], _identities(row[9]), row[10]), strict=True))) for row in map(tuple, rows)
    ]


def drop(connection: Connection, ids: Sequence[int]) -> int:
    """Remove rows; how many were there. The counts by reason stay."""
    return sum(connection.execute("DELETE FROM quarantine WHERE id = ?", (one,)).rowcount for one in ids)


def drop_wanted(connection: Connection, wanted: Wanted) -> int:
    """Remove all rows that are meant; how many there were."""
    chosen, values = _where(wanted)
    return connection.execute(f"DELETE FROM quarantine WHERE {chosen}", values).rowcount  # noqa: S608 - constants


def answer(connection: Connection, intent: int, text: str) -> None:
    """Tell whoever asked for `intent` what became of it."""
    connection.execute(
        "INSERT INTO quarantine_answer (intent, answer) VALUES (?, ?) "
        "ON CONFLICT (intent) DO UPDATE SET answer = excluded.answer",
        (intent, text),
    )
    connection.execute(
        "DELETE FROM quarantine_answer WHERE intent NOT IN (SELECT intent FROM quarantine_answer ORDER BY intent DESC LIMIT ?)",
        (MAX_ANSWERS,),
    )


def answered(connection: Connection) -> int:
    """The last intent that was answered: this lane goes on after it."""
    return int(connection.execute("SELECT coalesce(max(intent), 0) FROM quarantine_answer").fetchone()[0])


def raise_fault(connection: Connection, device: str, reason: str, at_ms: float, *, counts: bool = True) -> None:
    """Note that a device is at fault; the same fault again only counts, and not where another process counts it."""
    connection.execute(
        "INSERT INTO fault (device, reason, first_ms, last_ms, count) VALUES (?, ?, ?, ?, 1) "
        "ON CONFLICT (device, reason) DO UPDATE SET last_ms = excluded.last_ms, count = fault.count + ?, "
        "first_ms = CASE WHEN fault.cleared_ms IS NULL THEN fault.first_ms ELSE excluded.first_ms END, cleared_ms = NULL",
        (device, reason, at_ms, at_ms, int(counts)),
    )


def clear_fault(connection: Connection, device: str, reason: str, at_ms: float) -> None:
    """Note that a fault is over; its history stays."""
    connection.execute(
        "UPDATE fault SET cleared_ms = ? WHERE device = ? AND reason = ? AND cleared_ms IS NULL", (at_ms, device, reason)
    )


def load_progress(connection: Connection, boots: int) -> list[tuple[str, str, int, str, int]]:
    """The progress rows of the newest `boots` boots of each device, oldest first; older ones are forgotten."""
    connection.execute(
        "DELETE FROM progress WHERE rowid IN (SELECT id FROM (SELECT rowid AS id, row_number() OVER "
        "(PARTITION BY device ORDER BY rowid DESC) AS age FROM progress) AS aged WHERE age > ?)",
        (boots,),
    )
    return connection.execute("SELECT device, boot, up_to, above, lost FROM progress ORDER BY rowid").fetchall()


def save_progress(connection: Connection, rows: Iterable[tuple[str, str, int, str, int]], *, shared: bool = False) -> None:
    """Upsert progress rows (`iotcore.journal.progress.Row`); of a `shared` journal none goes back, for another may be further."""
    only = " WHERE excluded.up_to >= progress.up_to AND excluded.lost >= progress.lost" if shared else ""
    connection.executemany(
        "INSERT INTO progress (device, boot, up_to, above, lost) VALUES (?, ?, ?, ?, ?) ON CONFLICT (device, boot) "  # noqa: S608 - constants
        f"DO UPDATE SET up_to = excluded.up_to, above = excluded.above, lost = excluded.lost{only}",
        list(rows),
    )


def _columns(refusal: Refusal, name: str, at_ms: float) -> tuple[object, ...]:
    return (
        at_ms,
        refusal.reason,
        refusal.detail[:MAX_TEXT],
        refusal.topic[:MAX_TEXT],
        refusal.device,
        refusal.payload[:MAX_PAYLOAD_BYTES],
        refusal.size or len(refusal.payload),
        name,
        refusal.received_ms,
        msgspec.json.encode(refusal.identities).decode(),
    )


def _room(connection: Connection, name: str, at_ms: float) -> int:
    (recent,) = connection.execute(
        "SELECT count(*) FROM quarantine WHERE culprit = ? AND at_ms > ? AND more = 0", (name, at_ms - MINUTE_MS)
    ).fetchone()
    return max(0, ROWS_A_MINUTE - int(recent))


def _summarise(connection: Connection, name: str, refusals: Sequence[Refusal], at_ms: float) -> None:
    """Count what one culprit may not store, by reason."""
    last = {refusal.reason: refusal for refusal in refusals}
    for reason, count in Counter(refusal.reason for refusal in refusals).items():
        joined = connection.execute(
            "UPDATE quarantine SET more = more + ? WHERE id = (SELECT max(id) FROM quarantine WHERE culprit = ? AND at_ms > ? "
            "AND more > 0 AND reason = ?)",
            (count, name, at_ms - SUMMARY_MS, reason),
        )
        if not joined.rowcount:
            detail = f"more than {ROWS_A_MINUTE} refused in a minute: these were only counted"
            connection.execute(
                "INSERT INTO quarantine (at_ms, reason, detail, topic, device, payload, size, culprit, more) "
                "VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?)",
                (at_ms, reason, detail, last[reason].topic[:MAX_TEXT], last[reason].device, b"", name, count),
            )


def _trim_one(connection: Connection, name: str) -> None:
    (rows,) = connection.execute("SELECT count(*) FROM quarantine WHERE culprit = ?", (name,)).fetchone()
    if rows > MAX_ROWS_OF_ONE:
        connection.execute(
            "DELETE FROM quarantine WHERE id IN (SELECT id FROM quarantine WHERE culprit = ? ORDER BY at_ms, id LIMIT ?)",
            (name, rows - MAX_ROWS_OF_ONE),
        )


def _trim(connection: Connection) -> None:
    while True:
        rows, size = connection.execute("SELECT rows, bytes FROM quarantine_kept").fetchone()
        if rows <= MAX_ROWS and size <= MAX_BYTES:
            return
        count = max(rows - MAX_ROWS, 1)
        connection.execute("DELETE FROM quarantine WHERE id IN (SELECT id FROM quarantine ORDER BY id LIMIT ?)", (count,))


def _where(wanted: Wanted) -> tuple[str, list[object]]:
    """A condition of constants, and its values."""
    parts, values = ["at_ms >= ?"], [wanted.since_ms]
    chosen: list[object] = list(values)
    if wanted.ids:
        parts.append(f"id IN ({', '.join('?' * len(wanted.ids))})")
        chosen += wanted.ids
    for column, value in (("device", wanted.device), ("reason", wanted.reason)):
        if value:
            parts.append(f"{column} = ?")
            chosen.append(value)
    if wanted.up_to:
        parts.append("id <= ?")
        chosen.append(wanted.up_to)
    return " AND ".join(parts), chosen


def _identities(text: str) -> tuple[tuple[str, int], ...]:
    return tuple((boot, seq) for boot, seq in msgspec.json.decode(text))
