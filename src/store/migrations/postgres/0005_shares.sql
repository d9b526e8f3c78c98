-- Every list is read from the end of one index, whatever it asks for: the columns of its filter, the status, the id.
DROP INDEX notes_listed_by_recipient;
CREATE INDEX notes_listed_by_via ON notes (tenant, via, status, id);
CREATE INDEX notes_listed_by_recipient ON notes (tenant, recipient, via, status, id);

-- Notes that are due in more than a day are counted apart from the others, so that they do not fill the queue. Rows that
-- cannot be read are not counted: they hold no place.
--   far  1: the note is counted as due in more than a day
DROP TRIGGER deliveries_come ON deliveries;
DROP TRIGGER deliveries_go ON deliveries;
ALTER TABLE deliveries ADD COLUMN far INTEGER NOT NULL DEFAULT 0;
UPDATE deliveries SET far = 1 WHERE kind = 'send' AND state = 'queued' AND due_at > clock_ms() + 86400000;
CREATE INDEX deliveries_far ON deliveries (due_at) WHERE far = 1;
ALTER TABLE queue_depths ADD COLUMN far BIGINT NOT NULL DEFAULT 0;
DELETE FROM queue_depths;
INSERT INTO queue_depths (tenant, slot, depth, far)
    SELECT name, 0, COUNT(*) FILTER (WHERE far = 0), COUNT(*) FILTER (WHERE far = 1)
    FROM deliveries CROSS JOIN LATERAL (VALUES (tenant), ('')) AS names (name)
    WHERE kind = 'send' AND state <> 'unreadable' GROUP BY name;

CREATE OR REPLACE FUNCTION count_delivery() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    of_tenant TEXT := CASE TG_OP WHEN 'DELETE' THEN OLD.tenant ELSE NEW.tenant END;
    own_slot  INTEGER := pg_backend_pid() % 64;
    near      BIGINT := 0;
    further   BIGINT := 0;
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.state <> 'unreadable' THEN
        near := near - 1 + OLD.far;
        further := further - OLD.far;
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.state <> 'unreadable' THEN
        near := near + 1 - NEW.far;
        further := further + NEW.far;
    END IF;
    INSERT INTO queue_depths AS q (tenant, slot, depth, far)
    VALUES (of_tenant, own_slot, near, further), ('', own_slot, near, further)
    ON CONFLICT (tenant, slot) DO UPDATE SET depth = q.depth + EXCLUDED.depth, far = q.far + EXCLUDED.far;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER deliveries_come AFTER INSERT ON deliveries DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.kind = 'send') EXECUTE FUNCTION count_delivery();
CREATE CONSTRAINT TRIGGER deliveries_go AFTER DELETE ON deliveries DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.kind = 'send') EXECUTE FUNCTION count_delivery();
CREATE CONSTRAINT TRIGGER deliveries_change AFTER UPDATE OF state, far ON deliveries DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.kind = 'send'
        AND (NEW.far <> OLD.far OR (NEW.state = 'unreadable') <> (OLD.state = 'unreadable')))
    EXECUTE FUNCTION count_delivery();

-- How much audio each tenant keeps: sources, what was made of them, and uploads. Spread over rows like the depths.
ALTER TABLE notes ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE uploads ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0;
-- A document that cannot be read counts as nothing.
CREATE FUNCTION pg_temp.audio_in(doc TEXT) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    parsed JSON;
BEGIN
    parsed := doc::JSON;
    RETURN COALESCE((parsed->'probed'->'facts'->>'size_bytes')::BIGINT, 0)
        + CASE WHEN parsed->'sent'->>'work' <> 'none' THEN (parsed->'sent'->>'size_bytes')::BIGINT ELSE 0 END;
EXCEPTION WHEN OTHERS THEN
    RETURN 0;
END $$;
UPDATE notes SET bytes = COALESCE(pg_temp.audio_in(doc), 0) WHERE has_audio = 1;
UPDATE uploads SET bytes = COALESCE(pg_temp.audio_in(doc), 0) WHERE has_audio = 1;
CREATE TABLE kept_audio (
    tenant TEXT COLLATE "C" NOT NULL,
    slot   INTEGER NOT NULL,
    bytes  BIGINT NOT NULL,
    PRIMARY KEY (tenant, slot)
) WITH (fillfactor = 50);
INSERT INTO kept_audio SELECT tenant, 0, SUM(bytes)
    FROM (SELECT tenant, bytes FROM notes UNION ALL SELECT tenant, bytes FROM uploads) AS kept GROUP BY tenant;

CREATE FUNCTION count_audio() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    change BIGINT := 0;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        change := change - OLD.bytes;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        change := change + NEW.bytes;
    END IF;
    INSERT INTO kept_audio AS k VALUES
        (CASE TG_OP WHEN 'DELETE' THEN OLD.tenant ELSE NEW.tenant END, pg_backend_pid() % 64, change)
    ON CONFLICT (tenant, slot) DO UPDATE SET bytes = k.bytes + EXCLUDED.bytes;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER notes_audio_comes AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.bytes <> 0) EXECUTE FUNCTION count_audio();
CREATE CONSTRAINT TRIGGER notes_audio_changes AFTER UPDATE OF bytes ON notes DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.bytes <> OLD.bytes) EXECUTE FUNCTION count_audio();
CREATE CONSTRAINT TRIGGER notes_audio_goes AFTER DELETE ON notes DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.bytes <> 0) EXECUTE FUNCTION count_audio();
CREATE CONSTRAINT TRIGGER uploads_audio_comes AFTER INSERT ON uploads DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.bytes <> 0) EXECUTE FUNCTION count_audio();
CREATE CONSTRAINT TRIGGER uploads_audio_changes AFTER UPDATE OF bytes ON uploads DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.bytes <> OLD.bytes) EXECUTE FUNCTION count_audio();
CREATE CONSTRAINT TRIGGER uploads_audio_goes AFTER DELETE ON uploads DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.bytes <> 0) EXECUTE FUNCTION count_audio();

-- Positions of events used to be their plain numbers, which tell how many events all tenants have. Clients may still
-- hold some from before; a number above this one was never given out.
CREATE TABLE plain_positions (until BIGINT NOT NULL);
INSERT INTO plain_positions SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM places;

-- Makes a note durable, as before. The bounds count what is due within a day. A tenant below its share of the whole queue
-- is let in whatever the others have; what is due later has the tenant's bound once more, and no other.
DROP FUNCTION accept;
CREATE FUNCTION accept(
    new_id TEXT, new_tenant TEXT, new_status TEXT, new_created_at BIGINT, new_doc TEXT, new_recipient TEXT,
    new_via TEXT, new_source BYTEA, new_connection TEXT, new_lane TEXT, new_due_at BIGINT, new_expires_at BIGINT,
    new_key TEXT, new_fingerprint TEXT, key_expires_at BIGINT, releases TEXT,
    max_queue BIGINT, max_queue_per_tenant BIGINT, share BIGINT, is_far INTEGER, new_bytes BIGINT,
    OUT outcome TEXT, OUT holder TEXT, OUT holder_fingerprint TEXT
) LANGUAGE plpgsql AS $$
DECLARE
    ahead     BIGINT := ahead_of(new_created_at);
    held_lane TEXT;
    alone     INTEGER;
    waiting   BIGINT;
    later     BIGINT;
BEGIN
    outcome := 'created';
    IF EXISTS (SELECT 1 FROM notes WHERE id = new_id) THEN
        RETURN;
    END IF;
    SELECT note_id, fingerprint INTO holder, holder_fingerprint FROM idempotency
    WHERE tenant = new_tenant AND key = new_key AND expires_at > new_created_at;
    IF FOUND THEN
        outcome := 'key_taken';
        RETURN;
    END IF;
    SELECT COALESCE(SUM(depth), 0), COALESCE(SUM(far), 0) INTO waiting, later
    FROM queue_depths WHERE tenant = new_tenant;
    IF is_far = 1 THEN
        IF later >= max_queue_per_tenant THEN
            outcome := 'queue_full';
            RETURN;
        END IF;
    ELSIF waiting >= max_queue_per_tenant OR waiting >= share
        AND (SELECT COALESCE(SUM(depth), 0) FROM queue_depths WHERE tenant = '') >= max_queue
    THEN
        outcome := 'queue_full';
        RETURN;
    END IF;
    IF new_key IS NOT NULL THEN
        -- Of two that come at once with one key, the second waits here for the first.
        INSERT INTO idempotency AS old VALUES (new_tenant, new_key, new_fingerprint, new_id, key_expires_at)
        ON CONFLICT (tenant, key) DO UPDATE SET
            fingerprint = EXCLUDED.fingerprint, note_id = EXCLUDED.note_id, expires_at = EXCLUDED.expires_at
        WHERE old.expires_at <= new_created_at;
        IF NOT FOUND THEN
            SELECT note_id, fingerprint INTO STRICT holder, holder_fingerprint FROM idempotency
            WHERE tenant = new_tenant AND key = new_key;
            outcome := 'key_taken';
            RETURN;
        END IF;
    END IF;
    INSERT INTO notes (id, tenant, status, created_at, doc, recipient, via, bytes)
    VALUES (new_id, new_tenant, new_status, new_created_at, new_doc, new_recipient, new_via, new_bytes);
    IF new_source IS NOT NULL THEN
        INSERT INTO sources VALUES (new_id, new_source);
    END IF;
    SELECT lane INTO held_lane FROM deliveries WHERE note_id = releases AND kind = 'send' AND state = 'held';
    PERFORM hold(ARRAY[new_lane, COALESCE(held_lane, new_lane)]);
    alone := (NOT EXISTS (SELECT 1 FROM deliveries WHERE lane = new_lane))::INTEGER;
    INSERT INTO deliveries
        (note_id, tenant, connection, lane, state, queued_at, due_at, order_at, expires_at, head, far)
    VALUES (new_id, new_tenant, new_connection, new_lane, 'queued', new_created_at, new_due_at + ahead,
            new_due_at + ahead, new_expires_at + ahead, alone, is_far);
    IF alone = 0 THEN
        PERFORM elect(new_lane);
    END IF;
    IF held_lane IS NOT NULL THEN
        PERFORM let_go(held_lane, releases, NULL);
    END IF;
END $$;
