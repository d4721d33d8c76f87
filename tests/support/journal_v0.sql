-- journal.db as the version before the first upgrade step made it, for the tests of the upgrade.

CREATE TABLE IF NOT EXISTS reading (          -- durable before acknowledged; recent ones warm the rules after a restart
    device      TEXT NOT NULL,
    boot        TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    received_ms REAL NOT NULL,
    body        BLOB NOT NULL,                -- the Reading, msgpack
    PRIMARY KEY (device, boot, seq)
);
CREATE INDEX IF NOT EXISTS reading_by_time ON reading (received_ms);

CREATE TABLE IF NOT EXISTS incident (
    id              TEXT PRIMARY KEY,
    premises        TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('open', 'closed')),
    notice          TEXT NOT NULL,            -- the Notice that opened it (JSON): first-in stays visible
    detector_ms     REAL NOT NULL,
    received_ms     REAL NOT NULL,
    decided_ms      REAL NOT NULL,
    durable_ms      REAL,
    acknowledged_ms REAL,
    acknowledged_by TEXT,
    closed_ms       REAL,
    closed_by       TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS one_open_incident ON incident (premises) WHERE state = 'open';

CREATE TABLE IF NOT EXISTS cause (            -- exactly one incident for a reading and a rule, whoever evaluates it
    device   TEXT NOT NULL,
    boot     TEXT NOT NULL,
    seq      INTEGER NOT NULL,
    rule     TEXT NOT NULL,
    incident TEXT,                            -- NULL: recorded only (test, historical, or not a fire)
    PRIMARY KEY (device, boot, seq, rule)
);

CREATE TABLE IF NOT EXISTS alarm (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    incident    TEXT REFERENCES incident (id),
    device      TEXT NOT NULL,
    rule        TEXT NOT NULL,
    severity    TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('active', 'reset', 'test', 'historical')),
    notice      TEXT NOT NULL,
    detector_ms REAL NOT NULL,
    received_ms REAL NOT NULL,
    raised_ms   REAL NOT NULL,
    reset_ms    REAL
);
CREATE INDEX IF NOT EXISTS alarm_by_incident ON alarm (incident);
CREATE INDEX IF NOT EXISTS alarm_by_device ON alarm (device, id);

CREATE TABLE IF NOT EXISTS outbox (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    incident        TEXT NOT NULL REFERENCES incident (id),
    channel         TEXT NOT NULL,
    event           TEXT NOT NULL,
    number          INTEGER NOT NULL,         -- 1-9999 in turn for each channel: a re-send repeats it (SIA DC-09)
    notice          TEXT NOT NULL,
    created_ms      REAL NOT NULL,
    lease_owner     TEXT,
    lease_until_ms  REAL NOT NULL DEFAULT 0,
    next_at_ms      REAL NOT NULL DEFAULT 0,
    attempts        INTEGER NOT NULL DEFAULT 0,
    sent_ms         REAL,                     -- first frame out
    acknowledged_ms REAL,                     -- the receiver's own valid acknowledgement
    reply           TEXT,
    failed_ms       REAL,                     -- the last failed attempt, and why
    last_error      TEXT,
    UNIQUE (incident, channel, event)
);
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (channel, id) WHERE acknowledged_ms IS NULL;

CREATE TABLE IF NOT EXISTS channel_number (
    channel TEXT PRIMARY KEY,
    number  INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS watermark (        -- at a reset: readings of this boot up to seq belong to the closed episode
    device   TEXT PRIMARY KEY,
    boot     TEXT NOT NULL,
    seq      INTEGER NOT NULL,
    incident TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS presence (
    device TEXT PRIMARY KEY,
    online INTEGER NOT NULL,
    at_ms  REAL NOT NULL
);

CREATE TABLE IF NOT EXISTS cursor (           -- how far this file has followed somebody else's changes
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS change (           -- monotonic: pages and other processes follow it
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    kind  TEXT NOT NULL,                      -- incident | delivery | alarm
    key   TEXT NOT NULL,
    at_ms REAL NOT NULL
);

CREATE TABLE IF NOT EXISTS parked (           -- notices of a restored backup that may have been delivered since: a person decides
    id         INTEGER PRIMARY KEY,           -- as it was in the outbox
    incident   TEXT NOT NULL REFERENCES incident (id),
    channel    TEXT NOT NULL,
    event      TEXT NOT NULL,
    notice     TEXT NOT NULL,
    created_ms REAL NOT NULL,
    sent_ms    REAL,
    parked_ms  REAL NOT NULL,
    decision   TEXT CHECK (decision IN ('send', 'drop')),
    decided_ms REAL,
    decided_by TEXT
);
