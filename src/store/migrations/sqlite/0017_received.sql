-- Voice notes that people sent. `doc` is the whole note; the columns beside it repeat what queries need.
--   connection   TENANT/CONNECTION, over which it came
--   message      SHA-256 of the provider's message id, in hexadecimal: the same message is never stored twice. The row
--                outlives the note, since providers repeat callbacks for days
--   sender, conversation  canonical spellings; empty once the note was erased
--   listed       1: it was announced and not erased
--   audio_until  when its audio is removed; NULL if there is none
--   doc          NULL once the note was erased
CREATE TABLE received (
    id           TEXT PRIMARY KEY,
    tenant       TEXT NOT NULL,
    connection   TEXT NOT NULL,
    message      TEXT NOT NULL,
    status       TEXT NOT NULL,
    via          TEXT NOT NULL,
    sender       TEXT NOT NULL,
    conversation TEXT NOT NULL,
    received_at  INTEGER NOT NULL,
    ended_at     INTEGER,
    listed       INTEGER NOT NULL DEFAULT 0,
    audio_until  INTEGER,
    bytes        INTEGER NOT NULL DEFAULT 0,
    doc          TEXT
);
CREATE UNIQUE INDEX received_once ON received (connection, message);
CREATE INDEX received_listed ON received (tenant, id) WHERE listed = 1;
CREATE INDEX received_listed_by_conversation ON received (tenant, conversation, id) WHERE listed = 1;
CREATE INDEX received_listed_by_sender ON received (tenant, sender, id) WHERE listed = 1;
CREATE INDEX received_listed_by_via ON received (tenant, via, id) WHERE listed = 1;
CREATE INDEX received_by_end ON received (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX received_with_audio ON received (audio_until) WHERE audio_until IS NOT NULL;

-- Small audio of received notes. Larger audio is in files.
--   part  "native", or the name of a profile
CREATE TABLE received_audio (
    received_id TEXT NOT NULL REFERENCES received (id) ON DELETE CASCADE,
    part        TEXT NOT NULL,
    bytes       BLOB NOT NULL,
    PRIMARY KEY (received_id, part)
);

CREATE TRIGGER received_bytes_change AFTER UPDATE OF bytes ON received WHEN NEW.bytes <> OLD.bytes BEGIN
    INSERT INTO kept_audio VALUES (NEW.tenant, NEW.bytes - OLD.bytes)
    ON CONFLICT (tenant) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER received_bytes_go AFTER DELETE ON received WHEN OLD.bytes <> 0 BEGIN
    UPDATE kept_audio SET bytes = bytes - OLD.bytes WHERE tenant = OLD.tenant;
END;

-- Events and jobs are about notes or about received notes, whichever `note_id` names, so it is no foreign key any more.
-- Both kinds of note take their events and jobs with them by a trigger.
--   kind  of a job: send, tell, overdue, look_up; of received notes: receive, tell, transcribe
CREATE TABLE new_events (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    id      TEXT NOT NULL,
    tenant  TEXT NOT NULL,
    note_id TEXT NOT NULL,
    kind    TEXT NOT NULL,
    at      INTEGER NOT NULL,
    doc     TEXT NOT NULL
);
INSERT INTO new_events (seq, id, tenant, note_id, kind, at, doc)
    SELECT seq, id, tenant, note_id, kind, at, doc FROM events;
CREATE TABLE new_event_attempts (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    event   INTEGER NOT NULL REFERENCES new_events (seq) ON DELETE CASCADE,
    at      INTEGER NOT NULL,
    status  INTEGER,
    took_ms INTEGER NOT NULL,
    error   TEXT
);
INSERT INTO new_event_attempts (id, event, at, status, took_ms, error)
    SELECT id, event, at, status, took_ms, error FROM event_attempts;
CREATE TABLE new_deliveries (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    kind        TEXT NOT NULL DEFAULT 'send',
    note_id     TEXT NOT NULL,
    event       INTEGER REFERENCES new_events (seq) ON DELETE CASCADE,
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
    head        INTEGER NOT NULL DEFAULT 0,
    far         INTEGER NOT NULL DEFAULT 0
);
INSERT INTO new_deliveries (id, kind, note_id, event, tenant, connection, lane, state, queued_at, due_at, order_at,
        expires_at, lease_until, fence, tries, head, far)
    SELECT id, kind, note_id, event, tenant, connection, lane, state, queued_at, due_at, order_at,
        expires_at, lease_until, fence, tries, head, far FROM deliveries;
-- Numbers are never given twice, even if the newest rows are gone.
CREATE TEMP TABLE numbers AS SELECT name, seq FROM sqlite_sequence
    WHERE name IN ('events', 'event_attempts', 'deliveries');
DROP TABLE deliveries;
DROP TABLE event_attempts;
DROP TABLE events;
ALTER TABLE new_events RENAME TO events;
ALTER TABLE new_event_attempts RENAME TO event_attempts;
ALTER TABLE new_deliveries RENAME TO deliveries;
DELETE FROM sqlite_sequence WHERE name IN (SELECT name FROM numbers);
INSERT INTO sqlite_sequence (name, seq) SELECT name, seq FROM numbers;
DROP TABLE numbers;

CREATE INDEX events_of_tenant ON events (tenant, seq);
CREATE INDEX events_of_note ON events (note_id, seq);
CREATE INDEX events_by_age ON events (at);
CREATE UNIQUE INDEX events_by_id ON events (id);
CREATE INDEX event_attempts_of ON event_attempts (event, id);

CREATE UNIQUE INDEX deliveries_of_note ON deliveries (note_id, kind, COALESCE(event, 0));
CREATE INDEX deliveries_event ON deliveries (event) WHERE event IS NOT NULL;
CREATE INDEX deliveries_lane ON deliveries (lane, order_at, id);
CREATE UNIQUE INDEX deliveries_head ON deliveries (lane) WHERE head = 1;
CREATE INDEX deliveries_ready ON deliveries (connection, due_at, id) WHERE head = 1 AND state = 'queued';
CREATE INDEX deliveries_next ON deliveries (due_at) WHERE head = 1 AND state = 'queued';
CREATE INDEX deliveries_held ON deliveries (due_at) WHERE state = 'held';
CREATE INDEX deliveries_expiry ON deliveries (expires_at) WHERE state = 'queued';
CREATE INDEX deliveries_lease ON deliveries (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX deliveries_far ON deliveries (due_at) WHERE far = 1;

CREATE TRIGGER deliveries_come AFTER INSERT ON deliveries WHEN NEW.kind = 'send' BEGIN
    INSERT INTO queue_depths VALUES (NEW.tenant, 1 - NEW.far, NEW.far)
    ON CONFLICT (tenant) DO UPDATE SET depth = depth + excluded.depth, far = far + excluded.far;
END;
CREATE TRIGGER deliveries_go AFTER DELETE ON deliveries
WHEN OLD.kind = 'send' AND OLD.state <> 'unreadable' BEGIN
    UPDATE queue_depths SET depth = depth - 1 + OLD.far, far = far - OLD.far WHERE tenant = OLD.tenant;
END;
CREATE TRIGGER deliveries_change AFTER UPDATE OF state, far ON deliveries
WHEN NEW.kind = 'send' AND (NEW.far <> OLD.far OR (NEW.state = 'unreadable') <> (OLD.state = 'unreadable')) BEGIN
    UPDATE queue_depths SET
        depth = depth - (OLD.state <> 'unreadable' AND OLD.far = 0) + (NEW.state <> 'unreadable' AND NEW.far = 0),
        far = far - (OLD.state <> 'unreadable' AND OLD.far = 1) + (NEW.state <> 'unreadable' AND NEW.far = 1)
    WHERE tenant = NEW.tenant;
END;
CREATE TRIGGER deliveries_elect AFTER DELETE ON deliveries WHEN OLD.head = 1 BEGIN
    UPDATE deliveries SET head = 1 WHERE id = (
        SELECT id FROM deliveries WHERE lane = OLD.lane AND state = 'queued' ORDER BY order_at, id LIMIT 1);
END;

CREATE TRIGGER notes_leave AFTER DELETE ON notes BEGIN
    DELETE FROM deliveries WHERE note_id = OLD.id;
    DELETE FROM events WHERE note_id = OLD.id;
END;
CREATE TRIGGER received_leave AFTER DELETE ON received BEGIN
    DELETE FROM deliveries WHERE note_id = OLD.id;
    DELETE FROM events WHERE note_id = OLD.id;
END;
