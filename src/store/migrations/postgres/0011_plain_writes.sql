-- One index for what two did before: the notes that ended, with and without audio.
DROP INDEX notes_ended;
DROP INDEX notes_with_audio;
CREATE INDEX notes_by_end ON notes (has_audio, ended_at) WHERE ended_at IS NOT NULL;

-- One index finds the jobs of a note and keeps each of them single: one send, one deadline, one look-up, one delivery of
-- each event.
DROP INDEX deliveries_send;
DROP INDEX deliveries_note;
CREATE UNIQUE INDEX deliveries_of_note ON deliveries (note_id, kind, COALESCE(event, 0));

-- Makes a note durable, as before. Its source is stored once for each tenant and content.
DROP FUNCTION accept;
CREATE FUNCTION accept(
    new_id TEXT, new_tenant TEXT, new_status TEXT, new_created_at BIGINT, new_doc TEXT, new_recipient TEXT,
    new_via TEXT, source_name TEXT, new_source BYTEA, new_connection TEXT, new_lane TEXT, new_due_at BIGINT,
    new_expires_at BIGINT, new_key TEXT, new_fingerprint TEXT, key_expires_at BIGINT, releases TEXT,
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
    IF new_key IS NOT NULL THEN
        SELECT note_id, fingerprint INTO holder, holder_fingerprint FROM idempotency
        WHERE tenant = new_tenant AND key = new_key AND expires_at > new_created_at;
        IF FOUND THEN
            outcome := 'key_taken';
            RETURN;
        END IF;
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
    IF releases IS NOT NULL THEN
        SELECT lane INTO held_lane FROM deliveries WHERE note_id = releases AND kind = 'send' AND state = 'held';
    END IF;
    PERFORM hold(ARRAY[new_lane, COALESCE(held_lane, new_lane)]);
    IF new_source IS NOT NULL THEN
        PERFORM keep_audio(new_id, new_tenant, 0, source_name, new_source);
    END IF;
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

-- Writes a plain change of a leased note: the note, its delivery, its event, its names, its deadline, the audio that was
-- made for it, and that its connection works. One call, so that a worker waits for one answer of the database and not for
-- ten. The outcome is
--   written
--   lost     another process has the lease; nothing was changed
--   early    receipts for the note came before; nothing was changed
CREATE FUNCTION write_plain(
    of_delivery BIGINT, of_fence BIGINT, from_state TEXT, to_state TEXT, held_names TEXT[],
    of_note TEXT, of_tenant TEXT, new_status TEXT, their_now BIGINT, new_doc TEXT, new_via TEXT, new_bytes BIGINT,
    event_id TEXT, event_kind TEXT, notify BOOLEAN, event_lane TEXT, events_key TEXT, event_expires_at BIGINT,
    note_connection TEXT, names TEXT[], deadline BIGINT, deadline_lane TEXT, watch_key TEXT,
    deadline_expires_at BIGINT, works TEXT, works_since BIGINT, sent_name TEXT, sent_bytes BYTEA
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

-- Begins a claim: waits for its turn, and puts what dead processes had only leased back into the queue. `own` are the
-- deliveries in progress in the calling process, which is alive. Answers with what the clock says by then, and with what
-- is overdue.
--   held     lanes whose unknown head was held long enough; then nothing else is done
--   leases   leases that ended
--   expired  notes that waited for longer than they may
-- The arrays tell of the connections that have deliveries due and are not paused, or have deliveries in flight, one entry
-- for each: when its first delivery was due, its failures in a row and ever, and its deliveries in flight. The connections
-- are found with one seek each: https://wiki.postgresql.org/wiki/Loose_indexscan. The order names the columns of
-- `deliveries_ready`, and a claim never sorts (see the second migration): otherwise a table that was just filled and has
-- no statistics yet would be read whole for each connection.
CREATE FUNCTION begin_claim(
    their_now BIGINT, expected BIGINT, own BIGINT[],
    OUT now_ms BIGINT, OUT jumped_ms BIGINT, OUT held BOOLEAN, OUT leases BOOLEAN, OUT expired BOOLEAN,
    OUT names TEXT[], OUT due_since BIGINT[], OUT in_a_row BIGINT[], OUT ever BIGINT[], OUT in_flight BIGINT[]
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT t.now_ms, t.jumped_ms INTO now_ms, jumped_ms FROM take_turn_at(their_now, expected) AS t;
    held := EXISTS (SELECT 1 FROM deliveries WHERE state = 'held' AND due_at <= now_ms);
    leases := EXISTS (SELECT 1 FROM deliveries WHERE lease_until <= now_ms);
    expired := EXISTS (SELECT 1 FROM deliveries WHERE state = 'queued' AND expires_at <= now_ms);
    IF held THEN
        RETURN;
    END IF;
    IF leases THEN
        UPDATE deliveries SET state = 'queued', lease_until = NULL WHERE id IN (
            SELECT id FROM deliveries WHERE lease_until <= now_ms AND state = 'leased' AND id <> ALL(own)
            FOR UPDATE SKIP LOCKED);
    END IF;
    WITH RECURSIVE each (connection, since) AS (
        (SELECT connection, due_at FROM deliveries WHERE head = 1 AND state = 'queued'
         ORDER BY connection, due_at, id LIMIT 1)
        UNION ALL
        SELECT next.connection, next.due_at FROM each CROSS JOIN LATERAL (
            SELECT connection, due_at FROM deliveries
            WHERE head = 1 AND state = 'queued' AND connection > each.connection
            ORDER BY connection, due_at, id LIMIT 1) next),
     waiting AS (
        SELECT each.connection, since, COALESCE(c.failures, 0) AS failures,
            COALESCE(c.failures_ever, 0) AS failures_ever FROM each
        LEFT JOIN connections c ON c.connection = each.connection
        WHERE since <= now_ms AND COALESCE(GREATEST(c.paused_until, c.broken_until, c.rate_until), 0) <= now_ms),
     under_way AS (
        SELECT connection, COUNT(*) AS count FROM deliveries
        WHERE lease_until >= 0 AND state IN ('leased', 'sending') GROUP BY connection),
     loads AS (
        SELECT connection, since, COALESCE(failures, 0) AS failures, COALESCE(failures_ever, 0) AS failures_ever,
            COALESCE(count, 0) AS count
        FROM waiting FULL JOIN under_way USING (connection))
    SELECT array_agg(connection), array_agg(since), array_agg(failures), array_agg(failures_ever), array_agg(count)
    INTO names, due_since, in_a_row, ever, in_flight FROM loads;
END $$;

-- Leases the chosen deliveries that are still unchanged, and reads what belongs to each: the document of its note, what
-- was learned about the recipient, and whether the connection may open conversations. It is read after the rows were
-- leased, because their former holder may have written just before.
CREATE FUNCTION lease(
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
            n.doc, l.value, c.closed_until, c.closed_why
        FROM deliveries d JOIN notes n ON n.id = d.note_id
        LEFT JOIN learned l ON l.lane = d.lane AND l.expires_at > their_now
        LEFT JOIN connections c ON c.connection = d.connection
        WHERE d.id = ANY(leased);
END $$;
