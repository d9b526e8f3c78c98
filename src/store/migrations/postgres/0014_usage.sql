-- The share of each note in its tenant's usage: the length of its audio, its bytes as received and as sent, and the
-- attempts at providers. Kept beside the document, so that erasing a note does not lose it.
ALTER TABLE notes ADD COLUMN used_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE notes ADD COLUMN used_in BIGINT NOT NULL DEFAULT 0;
ALTER TABLE notes ADD COLUMN used_out BIGINT NOT NULL DEFAULT 0;
ALTER TABLE notes ADD COLUMN used_attempts BIGINT NOT NULL DEFAULT 0;
-- A document that cannot be read counts as nothing.
CREATE FUNCTION pg_temp.used_by(doc TEXT) RETURNS BIGINT[] LANGUAGE plpgsql AS $$
DECLARE
    parsed JSON;
BEGIN
    parsed := doc::JSON;
    RETURN ARRAY[
        COALESCE((parsed->'probed'->'facts'->>'duration_ms')::BIGINT, 0),
        COALESCE((parsed->'probed'->'facts'->>'size_bytes')::BIGINT, 0),
        COALESCE((parsed->'sent'->>'size_bytes')::BIGINT, 0),
        COALESCE((parsed->'attempts'->-1->>'n')::BIGINT, 0)];
EXCEPTION WHEN OTHERS THEN
    RETURN ARRAY[0, 0, 0, 0];
END $$;
UPDATE notes SET used_ms = used[1], used_in = used[2], used_out = used[3], used_attempts = used[4]
    FROM (SELECT id AS note, pg_temp.used_by(doc) AS used FROM notes) AS read WHERE id = note;
-- The usage of a period is read from this index alone.
CREATE INDEX notes_used ON notes (tenant, created_at)
    INCLUDE (via, status, used_ms, used_in, used_out, used_attempts);

-- The usage of notes that were removed, by the day on which they were accepted (days since 1970, UTC). A note is counted
-- here in the transaction that removes it.
CREATE TABLE past_usage (
    tenant     TEXT COLLATE "C" NOT NULL,
    day        BIGINT NOT NULL,
    connection TEXT COLLATE "C" NOT NULL,
    status     TEXT COLLATE "C" NOT NULL,
    notes      BIGINT NOT NULL,
    ms         BIGINT NOT NULL,
    bytes_in   BIGINT NOT NULL,
    bytes_out  BIGINT NOT NULL,
    attempts   BIGINT NOT NULL,
    PRIMARY KEY (tenant, day, connection, status)
);
-- One statement for all notes that are removed together, in the order of the key: processes that remove notes at the same
-- time wait for each other and never block each other.
CREATE FUNCTION keep_usage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO past_usage AS p
    SELECT tenant, created_at / 86400000, COALESCE(via, ''), status, COUNT(*),
        SUM(used_ms), SUM(used_in), SUM(used_out), SUM(used_attempts)
    FROM gone GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (tenant, day, connection, status) DO UPDATE SET
        notes = p.notes + EXCLUDED.notes,
        ms = p.ms + EXCLUDED.ms,
        bytes_in = p.bytes_in + EXCLUDED.bytes_in,
        bytes_out = p.bytes_out + EXCLUDED.bytes_out,
        attempts = p.attempts + EXCLUDED.attempts;
    RETURN NULL;
END $$;
CREATE TRIGGER notes_usage_stays AFTER DELETE ON notes REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION keep_usage();

-- Makes a plain change of a note, as before, and keeps its share in the usage (`used`: milliseconds, bytes in, bytes out,
-- attempts) with it.
DROP FUNCTION write_plain;
CREATE FUNCTION write_plain(
    of_delivery BIGINT, of_fence BIGINT, from_state TEXT, to_state TEXT, held_names TEXT[],
    of_note TEXT, of_tenant TEXT, new_status TEXT, their_now BIGINT, new_doc TEXT, new_via TEXT, new_bytes BIGINT,
    event_id TEXT, event_kind TEXT, notify BOOLEAN, event_lane TEXT, events_key TEXT, event_expires_at BIGINT,
    note_connection TEXT, names TEXT[], deadline BIGINT, deadline_lane TEXT, watch_key TEXT,
    deadline_expires_at BIGINT, works TEXT, works_since BIGINT, sent_name TEXT, sent_bytes BYTEA,
    used BIGINT[]
) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    own_lane TEXT;
    before   TEXT;
    event    BIGINT;
    ahead    BIGINT := 0;
BEGIN
    SELECT lane INTO own_lane FROM deliveries WHERE id = of_delivery AND fence = of_fence;
    IF NOT FOUND THEN
        RETURN 'lost';
    END IF;
    PERFORM hold(held_names || own_lane);
    IF to_state IS NULL THEN
        IF EXISTS (
            SELECT 1 FROM early_receipts WHERE connection = note_connection AND message_id = ANY(names)
            UNION ALL
            SELECT 1 FROM early_receipts WHERE connection = note_connection AND mark = ANY(names)
            UNION ALL
            SELECT 1 FROM messages m JOIN early_receipts e ON e.connection = m.connection AND e.message_id = m.name
            WHERE m.note_id = of_note AND m.connection = note_connection
            UNION ALL
            SELECT 1 FROM messages m JOIN early_receipts e ON e.connection = m.connection AND e.mark = m.name
            WHERE m.note_id = of_note AND m.connection = note_connection)
        THEN
            RETURN 'early';
        END IF;
        DELETE FROM deliveries WHERE id = of_delivery AND fence = of_fence;
        IF NOT FOUND THEN
            RETURN 'lost';
        END IF;
        PERFORM elect(own_lane);
    ELSE
        UPDATE deliveries SET state = to_state
        WHERE id = of_delivery AND fence = of_fence AND state IN ('leased', from_state);
        IF NOT FOUND THEN
            RETURN 'lost';
        END IF;
    END IF;
    UPDATE notes SET status = new_status, status_before = status, doc = new_doc, via = new_via, bytes = new_bytes,
        used_ms = used[1], used_in = used[2], used_out = used[3], used_attempts = used[4],
        ended_at = CASE WHEN to_state IS NULL THEN COALESCE(ended_at, their_now) END
    WHERE id = of_note RETURNING status_before INTO before;
    IF sent_name IS NOT NULL THEN
        PERFORM keep_audio(of_note, of_tenant, 1, sent_name, sent_bytes);
    END IF;
    IF event_kind IS NOT NULL AND before IS DISTINCT FROM new_status THEN
        INSERT INTO events (id, tenant, note_id, kind, at, doc)
        VALUES (event_id, of_tenant, of_note, event_kind, their_now, new_doc) RETURNING seq INTO event;
        IF notify THEN
            ahead := ahead_of(their_now);
            INSERT INTO deliveries
                (kind, note_id, event, tenant, connection, lane, state, queued_at, due_at, order_at, expires_at)
            VALUES ('tell', of_note, event, of_tenant, events_key, event_lane, 'queued', their_now,
                    their_now + ahead, their_now + ahead, event_expires_at + ahead);
            PERFORM elect(event_lane);
        END IF;
    END IF;
    INSERT INTO messages AS m (connection, name, note_id)
    SELECT note_connection, name, of_note FROM unnest(names) AS name
    ON CONFLICT (connection, name) DO UPDATE SET note_id = EXCLUDED.note_id WHERE m.note_id <> EXCLUDED.note_id;
    IF deadline IS NOT NULL THEN
        ahead := ahead_of(their_now);
        DELETE FROM deliveries WHERE note_id = of_note AND kind = 'overdue';
        INSERT INTO deliveries
            (kind, note_id, tenant, connection, lane, state, queued_at, due_at, order_at, expires_at, head)
        VALUES ('overdue', of_note, of_tenant, watch_key, deadline_lane, 'queued', their_now,
                deadline + ahead, deadline + ahead, deadline_expires_at + ahead, 1);
    END IF;
    -- The row of a connection is shared by all its deliveries, so it is changed last, and only if it tells anything new.
    IF works IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM connections WHERE connection = works AND failure IS NULL AND failures = 0 AND broken_until = 0
        AND seen_at BETWEEN works_since AND their_now)
    THEN
        INSERT INTO connections AS c (connection, seen_at) VALUES (works, their_now)
        ON CONFLICT (connection) DO UPDATE SET
            seen_at = EXCLUDED.seen_at, failure = NULL, failures = 0, broken_until = 0;
    END IF;
    RETURN 'written';
END $$;
