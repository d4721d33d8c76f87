-- The journal: what the fire lane promises, and what became of it. Times are ms UTC. One writer at a time; readers never wait for it.
-- The same text makes the SQLite file journal.db and the PostgreSQL schema `journal` (`postgres.py` translates what differs).

CREATE TABLE IF NOT EXISTS reading (          -- durable before acknowledged; recent ones warm the rules after a restart
    device      TEXT NOT NULL,
    boot        TEXT NOT NULL,
    seq         BIGINT NOT NULL,
    received_ms DOUBLE PRECISION NOT NULL,
    body        BLOB NOT NULL,                -- the Reading, msgpack
    PRIMARY KEY (device, boot, seq)
);
CREATE INDEX IF NOT EXISTS reading_by_time ON reading (received_ms);

CREATE TABLE IF NOT EXISTS incident (
    id              TEXT PRIMARY KEY,
    premises        TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('open', 'closed')),
    notice          TEXT NOT NULL,            -- the Notice that opened it (JSON): first-in stays visible
    detector_ms     DOUBLE PRECISION NOT NULL,
    received_ms     DOUBLE PRECISION NOT NULL,
    decided_ms      DOUBLE PRECISION NOT NULL,
    durable_ms      DOUBLE PRECISION,
    acknowledged_ms DOUBLE PRECISION,
    acknowledged_by TEXT,
    closed_ms       DOUBLE PRECISION,
    closed_by       TEXT,
    silenced_ms     DOUBLE PRECISION,         -- sounders off; changes nothing of delivery
    silenced_by     TEXT,
    owner_said      TEXT,                     -- confirmed | denied: shown to the fire service, never cancels
    owner_ms        DOUBLE PRECISION,
    owner_by        TEXT,
    hold            TEXT,                     -- the Hold (JSON) while it is held; NULL: never was, or is over
    held_ms         DOUBLE PRECISION,         -- when a hold began; NULL: never was held
    released_ms     DOUBLE PRECISION,         -- when a hold ended and its notices were made
    updates         BIGINT NOT NULL DEFAULT 0 -- posted so far: the last one's part
);
CREATE UNIQUE INDEX IF NOT EXISTS one_open_incident ON incident (premises) WHERE state = 'open';
CREATE INDEX IF NOT EXISTS incident_held ON incident (id) WHERE hold IS NOT NULL;
CREATE INDEX IF NOT EXISTS incident_by_time ON incident (decided_ms);

CREATE TABLE IF NOT EXISTS incident_point (   -- what its receivers were told of, so that none is told twice
    incident TEXT NOT NULL REFERENCES incident (id),
    device   TEXT NOT NULL,
    point    TEXT NOT NULL,
    place    BIGINT NOT NULL,                 -- first-in has the lowest
    at_ms    DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (incident, device, point)
);

CREATE INDEX IF NOT EXISTS incident_point_in_order ON incident_point (incident, place);

CREATE TABLE IF NOT EXISTS cause (            -- exactly one incident for a reading and a rule, whoever evaluates it
    device   TEXT NOT NULL,
    boot     TEXT NOT NULL,
    seq      BIGINT NOT NULL,
    rule     TEXT NOT NULL,
    incident TEXT,                            -- NULL: recorded only (test, historical, disabled, or not a fire)
    at_ms    DOUBLE PRECISION NOT NULL DEFAULT 0,
    PRIMARY KEY (device, boot, seq, rule)
);
CREATE INDEX IF NOT EXISTS cause_by_time ON cause (at_ms) WHERE incident IS NULL;
CREATE INDEX IF NOT EXISTS cause_by_incident ON cause (incident);

CREATE TABLE IF NOT EXISTS alarm (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    incident        TEXT REFERENCES incident (id),
    device          TEXT NOT NULL,
    rule            TEXT NOT NULL,
    severity        TEXT NOT NULL,
    state           TEXT NOT NULL,            -- active | ended | reset | test | historical | disabled | repeat (of an older version)
    notice          TEXT NOT NULL,
    detector_ms     DOUBLE PRECISION NOT NULL,
    received_ms     DOUBLE PRECISION NOT NULL,
    raised_ms       DOUBLE PRECISION NOT NULL,
    reset_ms        DOUBLE PRECISION,         -- when it ended, by a reset or by itself
    latched         INTEGER NOT NULL DEFAULT 1,
    cleared_ms      DOUBLE PRECISION,         -- back to normal since; NULL: its condition holds
    acknowledged_ms DOUBLE PRECISION,
    acknowledged_by TEXT,
    repeats         BIGINT NOT NULL DEFAULT 0, -- raised again while it was active
    flaps           BIGINT NOT NULL DEFAULT 0, -- of these, after it had returned to normal
    flap_run        BIGINT NOT NULL DEFAULT 0, -- of these, each soon after the one before, last at flap_ms
    flap_ms         DOUBLE PRECISION
);
CREATE INDEX IF NOT EXISTS alarm_by_incident ON alarm (incident);
CREATE INDEX IF NOT EXISTS alarm_by_device ON alarm (device, id);
CREATE INDEX IF NOT EXISTS alarm_ended ON alarm (device, rule, id) WHERE state = 'ended';
CREATE UNIQUE INDEX IF NOT EXISTS one_active_alarm ON alarm (device, rule) WHERE state = 'active';

CREATE TABLE IF NOT EXISTS outbox (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    incident        TEXT NOT NULL REFERENCES incident (id),
    channel         TEXT NOT NULL,
    event           TEXT NOT NULL,            -- alarm | update | restore
    part            BIGINT NOT NULL DEFAULT 0, -- of updates: 1, 2, …
    number          INTEGER NOT NULL,         -- 1-9999 in turn for each channel: a re-send repeats it (SIA DC-09)
    notice          TEXT NOT NULL,
    created_ms      DOUBLE PRECISION NOT NULL,
    lease_owner     TEXT,
    lease_until_ms  DOUBLE PRECISION NOT NULL DEFAULT 0,
    next_at_ms      DOUBLE PRECISION NOT NULL DEFAULT 0,
    attempts        BIGINT NOT NULL DEFAULT 0,
    sent_ms         DOUBLE PRECISION,         -- first frame out
    acknowledged_ms DOUBLE PRECISION,         -- the receiver's own valid acknowledgement
    reply           TEXT,
    failed_ms       DOUBLE PRECISION,         -- the last failed attempt, and why
    last_error      TEXT,
    UNIQUE (incident, channel, event, part)
);
CREATE INDEX IF NOT EXISTS outbox_first ON outbox (channel, id) WHERE acknowledged_ms IS NULL AND event <> 'update';
CREATE INDEX IF NOT EXISTS outbox_later ON outbox (channel, id) WHERE acknowledged_ms IS NULL AND event = 'update';

CREATE TABLE IF NOT EXISTS channel_number (
    channel TEXT PRIMARY KEY,
    number  INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS watermark (        -- at a reset: readings of this boot up to seq belong to the closed episode
    device   TEXT NOT NULL,
    boot     TEXT NOT NULL,
    seq      BIGINT NOT NULL,
    incident TEXT NOT NULL,
    PRIMARY KEY (device, boot)
);

CREATE TABLE IF NOT EXISTS presence (
    device TEXT PRIMARY KEY,
    online INTEGER NOT NULL,
    at_ms  DOUBLE PRECISION NOT NULL
);

CREATE TABLE IF NOT EXISTS cursor (           -- how far somebody else's changes were followed
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);

CREATE TABLE IF NOT EXISTS change (           -- monotonic: pages and other processes follow it
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    kind  TEXT NOT NULL,                      -- incident | delivery | alarm
    key   TEXT NOT NULL,
    at_ms DOUBLE PRECISION NOT NULL
);

CREATE TABLE IF NOT EXISTS parked (           -- notices of a restored backup that may have been delivered since: a person decides
    id         INTEGER PRIMARY KEY,           -- as it was in the outbox
    incident   TEXT NOT NULL REFERENCES incident (id),
    channel    TEXT NOT NULL,
    event      TEXT NOT NULL,
    notice     TEXT NOT NULL,
    created_ms DOUBLE PRECISION NOT NULL,
    sent_ms    DOUBLE PRECISION,
    parked_ms  DOUBLE PRECISION NOT NULL,
    decision   TEXT CHECK (decision IN ('send', 'drop')),
    decided_ms DOUBLE PRECISION,
    decided_by TEXT,
    part       BIGINT NOT NULL DEFAULT 0
);
