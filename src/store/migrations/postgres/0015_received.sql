-- Voice notes that people sent. `doc` is the whole note; the columns beside it repeat what queries need.
--   connection   TENANT/CONNECTION, over which it came
--   message      SHA-256 of the provider's message id, in hexadecimal: the same message is never stored twice. The row
--                outlives the note, since providers repeat callbacks for days
--   sender, conversation  canonical spellings; empty once the note was erased
--   listed       1: it was announced and not erased
--   audio_until  when its audio is removed; NULL if there is none
--   doc          NULL once the note was erased
CREATE TABLE received (
    id           TEXT COLLATE "C" PRIMARY KEY,
    tenant       TEXT COLLATE "C" NOT NULL,
    connection   TEXT COLLATE "C" NOT NULL,
    message      TEXT COLLATE "C" NOT NULL,
    status       TEXT COLLATE "C" NOT NULL,
    via          TEXT COLLATE "C" NOT NULL,
    sender       TEXT COLLATE "C" NOT NULL,
    conversation TEXT COLLATE "C" NOT NULL,
    received_at  BIGINT NOT NULL,
    ended_at     BIGINT,
    listed       INTEGER NOT NULL DEFAULT 0,
    audio_until  BIGINT,
    bytes        BIGINT NOT NULL DEFAULT 0,
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
    received_id TEXT COLLATE "C" NOT NULL REFERENCES received (id) ON DELETE CASCADE,
    part        TEXT COLLATE "C" NOT NULL,
    bytes       BYTEA NOT NULL,
    PRIMARY KEY (received_id, part)
);
-- Audio is compressed already.
ALTER TABLE received_audio ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE CONSTRAINT TRIGGER received_bytes_change AFTER UPDATE OF bytes ON received DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.bytes <> OLD.bytes) EXECUTE FUNCTION count_audio();
CREATE CONSTRAINT TRIGGER received_bytes_go AFTER DELETE ON received DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.bytes <> 0) EXECUTE FUNCTION count_audio();

-- Events and jobs are about notes or about received notes, whichever `note_id` names, so it is no foreign key any more.
-- Both kinds of note take their events and jobs with them by a trigger.
--   kind  of a job: send, tell, overdue, look_up; of received notes: receive, tell, transcribe
ALTER TABLE events DROP CONSTRAINT events_note_id_fkey;
ALTER TABLE deliveries DROP CONSTRAINT deliveries_note_id_fkey;
CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM deliveries d USING gone WHERE d.note_id = gone.id;
    DELETE FROM events e USING gone WHERE e.note_id = gone.id;
    RETURN NULL;
END $$;
CREATE TRIGGER notes_leave AFTER DELETE ON notes REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION leave();
CREATE TRIGGER received_leave AFTER DELETE ON received REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION leave();

-- Leases deliveries, as before. The document is that of the note or the received note. A delivery whose subject is gone
-- has an empty one, and is set aside like one that cannot be read.
CREATE OR REPLACE FUNCTION lease(
    chosen BIGINT[], now_ms BIGINT, until BIGINT, new_owner INTEGER, their_now BIGINT
) RETURNS TABLE (
    id BIGINT, kind TEXT, note_id TEXT, event BIGINT, connection TEXT, lane TEXT, state TEXT, queued_at BIGINT,
    due_at BIGINT, fence BIGINT, tries BIGINT, doc TEXT, value TEXT, closed_until BIGINT, closed_why TEXT
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    leased BIGINT[];
BEGIN
    WITH free AS (
        SELECT id FROM deliveries
        WHERE id = ANY(chosen) AND (state = 'queued' AND (head = 1 OR expires_at <= now_ms)
                                    OR state = 'sending' AND lease_until <= now_ms)
        FOR UPDATE SKIP LOCKED),
    changed AS (
        UPDATE deliveries d SET lease_until = until, owner = new_owner, fence = d.fence + 1, tries = d.tries + 1,
            state = CASE d.state WHEN 'sending' THEN 'sending' ELSE 'leased' END
        FROM free WHERE d.id = free.id RETURNING d.id)
    SELECT array_agg(changed.id) INTO leased FROM changed;
    RETURN QUERY
        SELECT d.id, d.kind, d.note_id, d.event, d.connection, d.lane, d.state, d.queued_at, d.due_at, d.fence, d.tries,
            COALESCE(n.doc, r.doc, ''), l.value, c.closed_until, c.closed_why
        FROM deliveries d
        LEFT JOIN notes n ON n.id = d.note_id
        LEFT JOIN received r ON r.id = d.note_id
        LEFT JOIN learned l ON l.lane = d.lane AND l.expires_at > their_now
        LEFT JOIN connections c ON c.connection = d.connection
        WHERE d.id = ANY(leased);
END $$;
