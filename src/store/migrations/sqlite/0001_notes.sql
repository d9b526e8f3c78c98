-- Times are milliseconds since 1970. `doc` is the whole note; the columns beside it repeat what queries need.
CREATE TABLE notes (
    id         TEXT PRIMARY KEY,
    tenant     TEXT NOT NULL,
    status     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER,
    has_audio  INTEGER NOT NULL DEFAULT 1,
    doc        TEXT NOT NULL
);
CREATE INDEX notes_ended ON notes (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX notes_with_audio ON notes (ended_at) WHERE ended_at IS NOT NULL AND has_audio = 1;

-- The queue: one row per note that is not done.
--   queued   waiting for due_at
--   leased   a worker prepares it
--   sending  a worker may have made the visible request
--   held     outcome unknown; blocks its lane until due_at
--   unreadable  the note's document cannot be read; set aside, so that nobody else has to wait
CREATE TABLE deliveries (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    note_id     TEXT NOT NULL UNIQUE REFERENCES notes (id) ON DELETE CASCADE,
    tenant      TEXT NOT NULL,
    connection  TEXT NOT NULL,
    lane        TEXT NOT NULL,
    state       TEXT NOT NULL,
    due_at      INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    lease_until INTEGER,
    fence       INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX deliveries_lane ON deliveries (lane, id);
CREATE INDEX deliveries_due ON deliveries (state, due_at);
CREATE INDEX deliveries_expiry ON deliveries (state, expires_at);
CREATE INDEX deliveries_lease ON deliveries (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX deliveries_tenant ON deliveries (tenant);

-- Connections that wait (a provider's Retry-After).
CREATE TABLE connections (
    connection   TEXT PRIMARY KEY,
    paused_until INTEGER NOT NULL
);

CREATE TABLE idempotency (
    tenant      TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    note_id     TEXT NOT NULL,
    expires_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant, key)
);

-- What adapters learned about recipients, by lane.
CREATE TABLE learned (
    lane       TEXT PRIMARY KEY,
    value      TEXT NOT NULL,
    expires_at INTEGER NOT NULL
);

CREATE TABLE secrets (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
);
