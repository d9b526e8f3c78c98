-- Times are milliseconds since 1970. `doc` is the whole note; the columns beside it repeat what queries need.
-- Text is compared byte by byte: ids sort by time, and nothing depends on the language that the database was made for.
CREATE TABLE notes (
    id         TEXT COLLATE "C" PRIMARY KEY,
    tenant     TEXT COLLATE "C" NOT NULL,
    status     TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT,
    has_audio  INTEGER NOT NULL DEFAULT 1,
    -- TEXT, not JSONB: nothing is looked up inside, and JSONB refuses the character U+0000
    doc        TEXT NOT NULL,
    recipient  TEXT COLLATE "C",
    via        TEXT COLLATE "C"
);
CREATE INDEX notes_ended ON notes (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX notes_with_audio ON notes (ended_at) WHERE ended_at IS NOT NULL AND has_audio = 1;
CREATE INDEX notes_listed ON notes (tenant, id);
CREATE INDEX notes_listed_by_recipient ON notes (tenant, recipient, id);
CREATE INDEX notes_listed_by_status ON notes (tenant, status, id);

-- Small sources, as they came: beside their note, so that one commit holds both. Larger ones are files in the media
-- folder. Audio is compressed already.
CREATE TABLE sources (
    note_id TEXT COLLATE "C" PRIMARY KEY REFERENCES notes (id) ON DELETE CASCADE,
    bytes   BYTEA NOT NULL
);
ALTER TABLE sources ALTER COLUMN bytes SET STORAGE EXTERNAL;

-- What became of notes. `doc` is the note as it was then.
--   place  their order, as readers see it; given at the commit, see below
CREATE TABLE events (
    seq     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    place   BIGINT,
    id      TEXT COLLATE "C" NOT NULL,
    tenant  TEXT COLLATE "C" NOT NULL,
    note_id TEXT COLLATE "C" NOT NULL REFERENCES notes (id) ON DELETE CASCADE,
    kind    TEXT COLLATE "C" NOT NULL,
    at      BIGINT NOT NULL,
    doc     TEXT NOT NULL
);
CREATE INDEX events_of_tenant ON events (tenant, place);
CREATE INDEX events_of_note ON events (note_id, place);
CREATE INDEX events_by_age ON events (at);

-- The queue: one row for everything that has to happen.
--   kind     send, tell (event), overdue (deadline of a receipt), look_up
--   state    queued   waiting for due_at
--            leased   a worker prepares it
--            sending  a worker may have made the visible request
--            held     outcome unknown; blocks its lane until due_at
--            unreadable  the note's document cannot be read; set aside, so that nobody else has to wait
--   order_at when it became due; a lane is ordered by (order_at, id)
--   tries    how often it was leased
--   head     1: the one delivery of its lane that may go out or is under way
CREATE TABLE deliveries (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind        TEXT COLLATE "C" NOT NULL DEFAULT 'send',
    note_id     TEXT COLLATE "C" NOT NULL REFERENCES notes (id) ON DELETE CASCADE,
    event       BIGINT REFERENCES events (seq) ON DELETE CASCADE,
    tenant      TEXT COLLATE "C" NOT NULL,
    connection  TEXT COLLATE "C" NOT NULL,
    lane        TEXT COLLATE "C" NOT NULL,
    state       TEXT COLLATE "C" NOT NULL,
    queued_at   BIGINT NOT NULL,
    due_at      BIGINT NOT NULL,
    order_at    BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    lease_until BIGINT,
    fence       BIGINT NOT NULL DEFAULT 0,
    tries       BIGINT NOT NULL DEFAULT 0,
    head        INTEGER NOT NULL DEFAULT 0
-- Rows come and go: what is dead must not pile up at the start of the indexes that are read from their start.
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.05);
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

-- By which names a connection's provider knows the messages of notes: their ids, and marks from before they had one.
CREATE TABLE messages (
    connection TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    note_id    TEXT COLLATE "C" NOT NULL REFERENCES notes (id) ON DELETE CASCADE,
    PRIMARY KEY (connection, name)
);
CREATE INDEX messages_of_note ON messages (note_id);

-- Receipts that came before the name they are for.
CREATE TABLE early_receipts (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection TEXT COLLATE "C" NOT NULL,
    message_id TEXT COLLATE "C" NOT NULL,
    mark       TEXT COLLATE "C",
    at         BIGINT NOT NULL,
    doc        TEXT NOT NULL
);
CREATE INDEX early_receipts_by_id ON early_receipts (connection, message_id);
CREATE INDEX early_receipts_by_mark ON early_receipts (connection, mark) WHERE mark IS NOT NULL;
CREATE INDEX early_receipts_by_age ON early_receipts (at);

-- Callbacks that were taken in, so that the same one again changes nothing.
CREATE TABLE callbacks (
    connection TEXT COLLATE "C" NOT NULL,
    id         TEXT COLLATE "C" NOT NULL,
    at         BIGINT NOT NULL,
    PRIMARY KEY (connection, id)
);
CREATE INDEX callbacks_by_age ON callbacks (at);

-- What is known of a connection: until when it waits, and how its last attempt went. `rate_until`: no further attempt
-- before, because of its rate.
CREATE TABLE connections (
    connection   TEXT COLLATE "C" PRIMARY KEY,
    paused_until BIGINT NOT NULL DEFAULT 0,
    rate_until   BIGINT NOT NULL DEFAULT 0,
    seen_at      BIGINT,
    failure      TEXT,
    failures     BIGINT NOT NULL DEFAULT 0,
    callback_at  BIGINT
) WITH (fillfactor = 50);

-- When attempts over a connection with a rate began.
CREATE TABLE starts (connection TEXT COLLATE "C" NOT NULL, at BIGINT NOT NULL);
CREATE INDEX starts_at ON starts (connection, at);

CREATE TABLE idempotency (
    tenant      TEXT COLLATE "C" NOT NULL,
    key         TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT NOT NULL,
    note_id     TEXT COLLATE "C" NOT NULL,
    expires_at  BIGINT NOT NULL,
    PRIMARY KEY (tenant, key)
);
CREATE INDEX idempotency_expiry ON idempotency (expires_at);
CREATE INDEX idempotency_note ON idempotency (note_id);

-- What adapters learned about recipients, by lane.
CREATE TABLE learned (
    lane       TEXT COLLATE "C" PRIMARY KEY,
    value      TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX learned_expiry ON learned (expires_at);

CREATE TABLE secrets (
    name  TEXT COLLATE "C" PRIMARY KEY,
    value BYTEA NOT NULL
);

-- Audio that was uploaded ahead of its notes. The row outlives the audio, to tell "expired" from "never was".
CREATE TABLE uploads (
    id         TEXT COLLATE "C" PRIMARY KEY,
    tenant     TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL,
    has_audio  INTEGER NOT NULL DEFAULT 1,
    doc        TEXT NOT NULL
);
CREATE INDEX uploads_expiry ON uploads (expires_at);

-- How many notes wait, counted as they come and go: for each tenant, and under the name '' for all. One row each would be
-- what every accept waits for, so there are several, and each server process adds to its own. Their sum is the depth.
CREATE TABLE queue_depths (
    tenant TEXT COLLATE "C" NOT NULL,
    slot   INTEGER NOT NULL,
    depth  BIGINT NOT NULL,
    PRIMARY KEY (tenant, slot)
) WITH (fillfactor = 50);

CREATE FUNCTION count_delivery() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    of_tenant TEXT := CASE TG_OP WHEN 'INSERT' THEN NEW.tenant ELSE OLD.tenant END;
    change    BIGINT := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
    own_slot  INTEGER := pg_backend_pid() % 64;
BEGIN
    INSERT INTO queue_depths AS q VALUES (of_tenant, own_slot, change), ('', own_slot, change)
    ON CONFLICT (tenant, slot) DO UPDATE SET depth = q.depth + EXCLUDED.depth;
    RETURN NULL;
END $$;
-- Deferred to the commit, so that nobody holds a count while waiting for anything else.
CREATE CONSTRAINT TRIGGER deliveries_come AFTER INSERT ON deliveries DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.kind = 'send') EXECUTE FUNCTION count_delivery();
CREATE CONSTRAINT TRIGGER deliveries_go AFTER DELETE ON deliveries DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.kind = 'send') EXECUTE FUNCTION count_delivery();

-- A reader goes on behind the last event that it saw, so none may ever appear before that one. Numbers are given at the
-- commit, under a lock that writers share, and a reader, for an instant, has alone: then nobody is between his number
-- and his commit, and everything up to the newest place is there.
CREATE SEQUENCE places;
CREATE FUNCTION place_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(2, hashtext(NEW.tenant));
    UPDATE events SET place = nextval('places') WHERE seq = NEW.seq;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER events_placed AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION place_event();

-- The place of a tenant's newest event, before which there will be no other.
CREATE FUNCTION settled(of_tenant TEXT) RETURNS BIGINT LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(2, hashtext(of_tenant));
    RETURN COALESCE((SELECT MAX(place) FROM events WHERE tenant = of_tenant), 0);
END $$;

-- The database's own clock, which all processes share.
CREATE FUNCTION clock_ms() RETURNS BIGINT LANGUAGE sql VOLATILE AS
    $$ SELECT floor(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT $$;

-- How far this clock is ahead of a caller's, who says what time it is there. Times that are due are kept by the
-- database's clock, so that machines need not agree on theirs. Tests move time by hand: on their connections the
-- caller's word counts.
CREATE FUNCTION ahead_of(their_now BIGINT) RETURNS BIGINT LANGUAGE sql VOLATILE AS
    $$ SELECT CASE current_setting('voicegate.clock', TRUE) WHEN 'caller' THEN 0 ELSE clock_ms() - their_now END $$;

-- Whoever changes a note holds it until the commit, and with it the lanes that are its own: of its events, deadlines and
-- look-ups. Whoever adds to another lane, takes from it or moves its head holds the lane. Several are taken in one order, so that two who need the same ones never wait for each other. Two names with
-- one hash only wait a little more.
CREATE FUNCTION hold(wanted TEXT[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    hash BIGINT;
BEGIN
    FOR hash IN SELECT DISTINCT hashtextextended(name, 0) FROM unnest(wanted) AS name ORDER BY 1 LOOP
        PERFORM pg_advisory_xact_lock(hash);
    END LOOP;
END $$;

-- Makes the right delivery of a lane its head, after one came, went or was left: the first by the time at which it
-- became due, unless one is under way. The caller holds the lane. Claims do not, so the rows are locked, too: one that
-- is being leased is waited for, and then it is under way.
CREATE FUNCTION elect(in_lane TEXT) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    old       BIGINT;
    old_state TEXT;
    first     BIGINT;
BEGIN
    SELECT id, state INTO old, old_state FROM deliveries WHERE lane = in_lane AND head = 1 FOR UPDATE;
    IF old_state <> 'queued' THEN
        RETURN;
    END IF;
    SELECT id INTO first FROM deliveries WHERE lane = in_lane AND state = 'queued'
    ORDER BY order_at, id LIMIT 1 FOR UPDATE;
    IF first IS NOT DISTINCT FROM old THEN
        RETURN;
    END IF;
    UPDATE deliveries SET head = 0 WHERE id = old;
    UPDATE deliveries SET head = 1 WHERE id = first;
END $$;

-- Lets go of a lane whose head is held since its outcome is unknown: of that note, or of any whose time is up.
CREATE FUNCTION let_go(in_lane TEXT, of_note TEXT, until BIGINT) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM hold(ARRAY[in_lane]);
    DELETE FROM deliveries WHERE lane = in_lane AND state = 'held' AND (note_id = of_note OR due_at <= until);
    IF FOUND THEN
        PERFORM elect(in_lane);
    END IF;
END $$;

-- Makes a note durable with its delivery and its claim on the idempotency key: one call, so that a request waits for
-- one answer of the database and not for ten.
-- Called again with the same note, after a connection broke before the answer came, it changes nothing.
CREATE FUNCTION accept(
    new_id TEXT, new_tenant TEXT, new_status TEXT, new_created_at BIGINT, new_doc TEXT, new_recipient TEXT,
    new_via TEXT, new_source BYTEA, new_connection TEXT, new_lane TEXT, new_due_at BIGINT, new_expires_at BIGINT,
    new_key TEXT, new_fingerprint TEXT, key_expires_at BIGINT, releases TEXT,
    max_queue BIGINT, max_queue_per_tenant BIGINT,
    OUT outcome TEXT, OUT holder TEXT, OUT holder_fingerprint TEXT
) LANGUAGE plpgsql AS $$
DECLARE
    ahead     BIGINT := ahead_of(new_created_at);
    held_lane TEXT;
    alone     INTEGER;
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
    IF (SELECT COALESCE(SUM(depth), 0) FROM queue_depths WHERE tenant = '') >= max_queue
        OR (SELECT COALESCE(SUM(depth), 0) FROM queue_depths WHERE tenant = new_tenant) >= max_queue_per_tenant
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
    INSERT INTO notes (id, tenant, status, created_at, doc, recipient, via)
    VALUES (new_id, new_tenant, new_status, new_created_at, new_doc, new_recipient, new_via);
    IF new_source IS NOT NULL THEN
        INSERT INTO sources VALUES (new_id, new_source);
    END IF;
    SELECT lane INTO held_lane FROM deliveries WHERE note_id = releases AND kind = 'send' AND state = 'held';
    PERFORM hold(ARRAY[new_lane, COALESCE(held_lane, new_lane)]);
    alone := (NOT EXISTS (SELECT 1 FROM deliveries WHERE lane = new_lane))::INTEGER;
    INSERT INTO deliveries
        (note_id, tenant, connection, lane, state, queued_at, due_at, order_at, expires_at, head)
    VALUES (new_id, new_tenant, new_connection, new_lane, 'queued', new_created_at, new_due_at + ahead,
            new_due_at + ahead, new_expires_at + ahead, alone);
    IF alone = 0 THEN
        PERFORM elect(new_lane);
    END IF;
    IF held_lane IS NOT NULL THEN
        PERFORM let_go(held_lane, releases, NULL);
    END IF;
END $$;

-- Claims take turns: what a connection has room and rate for, and what is each tenant's share, is counted over all
-- processes, so no two may count at once. A claim waits for nothing else that anybody holds for long, and takes
-- milliseconds. Answers with what the clock says by then.
CREATE FUNCTION take_turn(their_now BIGINT) RETURNS BIGINT LANGUAGE plpgsql AS $$
BEGIN
    -- With two keys this is another space of locks than that of the names above.
    PERFORM pg_advisory_xact_lock(1, 1);
    RETURN their_now + ahead_of(their_now);
END $$;
