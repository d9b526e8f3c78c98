-- Work that a tenant ordered and that takes longer than a request. `doc` is the whole task, with its progress.
--   fingerprint  what was ordered: while a task runs, the same order gets the same task
--   key          Idempotency-Key of the order, remembered until key_expires_at
--   due_at       when the next step may be taken
--   lease_until  until then a process works at a step; fence grows with every lease
CREATE TABLE tasks (
    id             TEXT PRIMARY KEY,
    tenant         TEXT NOT NULL,
    status         TEXT NOT NULL,
    fingerprint    TEXT NOT NULL,
    key            TEXT,
    key_expires_at INTEGER,
    due_at         INTEGER NOT NULL,
    lease_until    INTEGER NOT NULL DEFAULT 0,
    fence          INTEGER NOT NULL DEFAULT 0,
    ended_at       INTEGER,
    doc            TEXT NOT NULL
);
CREATE UNIQUE INDEX tasks_running ON tasks (tenant, fingerprint) WHERE status = 'running';
CREATE INDEX tasks_due ON tasks (due_at) WHERE status = 'running';
CREATE UNIQUE INDEX tasks_key ON tasks (tenant, key) WHERE key IS NOT NULL;
CREATE INDEX tasks_ended ON tasks (ended_at) WHERE ended_at IS NOT NULL;

-- Notes that repeat another note. Only a note whose document names an original reaches this table.
CREATE TABLE resends (
    note_id  TEXT PRIMARY KEY REFERENCES notes (id) ON DELETE CASCADE,
    original TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX resends_of ON resends (original);
INSERT INTO resends SELECT id, json_extract(doc, '$.resend_of') FROM notes
    WHERE instr(doc, '"resend_of":"vn_') > 0 AND json_valid(doc) AND json_extract(doc, '$.resend_of') IS NOT NULL;
-- The search for the text comes first, because it is much cheaper than reading the document. The text may also stand in
-- the metadata of a bot, and then the document says that there is no original.
CREATE TRIGGER notes_resent AFTER INSERT ON notes WHEN instr(NEW.doc, '"resend_of":"vn_') > 0 BEGIN
    INSERT INTO resends SELECT NEW.id, json_extract(NEW.doc, '$.resend_of')
    WHERE json_extract(NEW.doc, '$.resend_of') IS NOT NULL;
END;

-- Notes that may be recovered, by their time. Notes that arrive never enter this index.
CREATE INDEX notes_to_recover ON notes (tenant, status, created_at, id, via)
    WHERE status IN ('failed', 'expired', 'unknown');
