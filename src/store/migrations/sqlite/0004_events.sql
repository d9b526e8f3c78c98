-- What became of notes, in the order in which it was committed. `doc` is the note as it was then.
CREATE TABLE events (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    id      TEXT NOT NULL,
    tenant  TEXT NOT NULL,
    note_id TEXT NOT NULL REFERENCES notes (id) ON DELETE CASCADE,
    kind    TEXT NOT NULL,
    at      INTEGER NOT NULL,
    doc     TEXT NOT NULL
);
CREATE INDEX events_of_tenant ON events (tenant, seq);
CREATE INDEX events_of_note ON events (note_id, seq);
CREATE INDEX events_by_age ON events (at);

-- One queue for everything that has to happen: sending notes, telling bots, watching for receipts, asking providers.
--   kind     send, tell (event), overdue (deadline of a receipt), look_up
--   tries    how often it was leased
-- Several rows may be about one note, but only one sends it.
DROP TRIGGER deliveries_come;
DROP TRIGGER deliveries_go;
CREATE TABLE queue (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    kind        TEXT NOT NULL DEFAULT 'send',
    note_id     TEXT NOT NULL REFERENCES notes (id) ON DELETE CASCADE,
    event       INTEGER REFERENCES events (seq) ON DELETE CASCADE,
    tenant      TEXT NOT NULL,
    connection  TEXT NOT NULL,
    lane        TEXT NOT NULL,
    state       TEXT NOT NULL,
    queued_at   INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    order_at    INTEGER NOT NULL DEFAULT 0,
    expires_at  INTEGER NOT NULL,
    lease_until INTEGER,
    fence       INTEGER NOT NULL DEFAULT 0,
    tries       INTEGER NOT NULL DEFAULT 0,
    head        INTEGER NOT NULL DEFAULT 0
);
INSERT INTO queue (id, note_id, tenant, connection, lane, state, queued_at, due_at, order_at, expires_at, lease_until, fence, head)
    SELECT id, note_id, tenant, connection, lane, state, order_at, due_at, order_at, expires_at, lease_until, fence, head
    FROM deliveries;
DROP TABLE deliveries;
ALTER TABLE queue RENAME TO deliveries;

CREATE UNIQUE INDEX deliveries_send ON deliveries (note_id) WHERE kind = 'send';
CREATE INDEX deliveries_note ON deliveries (note_id);
CREATE INDEX deliveries_event ON deliveries (event) WHERE event IS NOT NULL;
CREATE INDEX deliveries_lane ON deliveries (lane, order_at, id);
CREATE UNIQUE INDEX deliveries_head ON deliveries (lane) WHERE head = 1;
CREATE INDEX deliveries_ready ON deliveries (connection, due_at, id) WHERE head = 1 AND state = 'queued';
CREATE INDEX deliveries_next ON deliveries (due_at) WHERE head = 1 AND state = 'queued';
CREATE INDEX deliveries_held ON deliveries (due_at) WHERE state = 'held';
CREATE INDEX deliveries_expiry ON deliveries (expires_at) WHERE state = 'queued';
CREATE INDEX deliveries_lease ON deliveries (lease_until) WHERE lease_until IS NOT NULL;

-- Notes that wait count against delivery.max_queue, nothing else does.
CREATE TRIGGER deliveries_come AFTER INSERT ON deliveries WHEN NEW.kind = 'send' BEGIN
    INSERT INTO queue_depths VALUES (NEW.tenant, 1) ON CONFLICT (tenant) DO UPDATE SET depth = depth + 1;
END;
CREATE TRIGGER deliveries_go AFTER DELETE ON deliveries WHEN OLD.kind = 'send' BEGIN
    UPDATE queue_depths SET depth = depth - 1 WHERE tenant = OLD.tenant;
END;

-- By which names a connection's provider knows the messages of notes: their ids, and marks from before they had one.
CREATE TABLE messages (
    connection TEXT NOT NULL,
    name       TEXT NOT NULL,
    note_id    TEXT NOT NULL REFERENCES notes (id) ON DELETE CASCADE,
    PRIMARY KEY (connection, name)
);
CREATE INDEX messages_of_note ON messages (note_id);

-- Receipts that came before the name they are for.
CREATE TABLE early_receipts (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    connection TEXT NOT NULL,
    message_id TEXT NOT NULL,
    mark       TEXT,
    at         INTEGER NOT NULL,
    doc        TEXT NOT NULL
);
CREATE INDEX early_receipts_by_id ON early_receipts (connection, message_id);
CREATE INDEX early_receipts_by_mark ON early_receipts (connection, mark) WHERE mark IS NOT NULL;
CREATE INDEX early_receipts_by_age ON early_receipts (at);

-- Callbacks that were taken in, so that the same one again changes nothing.
CREATE TABLE callbacks (
    connection TEXT NOT NULL,
    id         TEXT NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (connection, id)
);
CREATE INDEX callbacks_by_age ON callbacks (at);

ALTER TABLE connections ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE connections ADD COLUMN callback_at INTEGER;
