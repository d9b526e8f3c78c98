-- Work that a tenant ordered and that takes longer than a request. `doc` is the whole task, with its progress.
--   fingerprint  what was ordered: while a task runs, the same order gets the same task
--   key          Idempotency-Key of the order, remembered until key_expires_at
--   due_at       when the next step may be taken
--   lease_until  until then a process works at a step; fence grows with every lease
CREATE TABLE tasks (
    id             TEXT COLLATE "C" PRIMARY KEY,
    tenant         TEXT COLLATE "C" NOT NULL,
    status         TEXT COLLATE "C" NOT NULL,
    fingerprint    TEXT NOT NULL,
    key            TEXT COLLATE "C",
    key_expires_at BIGINT,
    due_at         BIGINT NOT NULL,
    lease_until    BIGINT NOT NULL DEFAULT 0,
    fence          BIGINT NOT NULL DEFAULT 0,
    ended_at       BIGINT,
    doc            TEXT NOT NULL
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX tasks_running ON tasks (tenant, fingerprint) WHERE status = 'running';
CREATE INDEX tasks_due ON tasks (due_at) WHERE status = 'running';
CREATE UNIQUE INDEX tasks_key ON tasks (tenant, key) WHERE key IS NOT NULL;
CREATE INDEX tasks_ended ON tasks (ended_at) WHERE ended_at IS NOT NULL;

-- Notes that repeat another note. Only a note whose document names an original reaches this table.
CREATE TABLE resends (
    note_id  TEXT COLLATE "C" PRIMARY KEY REFERENCES notes (id) ON DELETE CASCADE,
    original TEXT COLLATE "C" NOT NULL
);
CREATE INDEX resends_of ON resends (original);
-- A document that cannot be read names no original.
CREATE FUNCTION original_in(doc TEXT) RETURNS TEXT LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN doc::JSON->>'resend_of';
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;
INSERT INTO resends SELECT id, original FROM (
    SELECT id, original_in(doc) AS original FROM notes WHERE strpos(doc, '"resend_of":"vn_') > 0) AS found
    WHERE original IS NOT NULL;
CREATE FUNCTION remember_resend() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO resends SELECT NEW.id, original_in(NEW.doc) WHERE original_in(NEW.doc) IS NOT NULL;
    RETURN NULL;
END $$;
-- The search for the text comes first, because it is much cheaper than reading the document. The text may also stand in
-- the metadata of a bot, and then the document says that there is no original.
CREATE TRIGGER notes_resent AFTER INSERT ON notes
    FOR EACH ROW WHEN (strpos(NEW.doc, '"resend_of":"vn_') > 0) EXECUTE FUNCTION remember_resend();

-- Notes that may be recovered, by their time. Notes that arrive never enter this index.
CREATE INDEX notes_to_recover ON notes (tenant, status, created_at, id, via)
    WHERE status IN ('failed', 'expired', 'unknown');
