-- A pause that a provider asks for ends in its time; one that follows from failures ends with the first success.
--   broken_until   no attempt before, because of failures
--   failures_ever  failures that counted, since the connection was first used: it tells whether one was counted between
--                  the beginning of an attempt and its end
ALTER TABLE connections ADD COLUMN broken_until BIGINT NOT NULL DEFAULT 0;
ALTER TABLE connections ADD COLUMN failures_ever BIGINT NOT NULL DEFAULT 0;

-- The clock of the queue goes on evenly where the server's clock is set. Times are only ever compared with each other,
-- so it does not matter by how much it is off.
--   offset_ms  what is added to the server's clock
--   last_ms    the time of a recent claim; the clock is never before it
CREATE TABLE clock (
    one       BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    offset_ms BIGINT NOT NULL,
    last_ms   BIGINT NOT NULL
) WITH (fillfactor = 50);
INSERT INTO clock (offset_ms, last_ms) VALUES (0, 0);

CREATE FUNCTION server_ms() RETURNS BIGINT LANGUAGE sql VOLATILE AS
    $$ SELECT floor(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT $$;

CREATE OR REPLACE FUNCTION clock_ms() RETURNS BIGINT LANGUAGE sql VOLATILE AS
    $$ SELECT GREATEST(server_ms() + offset_ms, last_ms) FROM clock WHERE one $$;

-- As `take_turn`, and keeps the clock even. `expected` is what the clock should say by the caller's monotonic clock,
-- counted from the caller's last claim; NULL at its first.
--   A clock that is before the last claim was set back: it goes on from there.
--   A clock that is far behind both the last claim and what the caller expects was set forward. Where others claimed
--   in the meantime, it is the caller that stood still.
CREATE FUNCTION take_turn_at(their_now BIGINT, expected BIGINT, OUT now_ms BIGINT, OUT jumped_ms BIGINT)
LANGUAGE plpgsql AS $$
DECLARE
    -- Claims are a few seconds apart where nothing is due.
    tolerance CONSTANT BIGINT := 15000;
    -- How far the clock may go back before it is noticed, and how often a claim writes at most.
    precision CONSTANT BIGINT := 100;
    server    BIGINT;
    old       clock%ROWTYPE;
    known     BIGINT;
BEGIN
    now_ms := take_turn(their_now);
    jumped_ms := 0;
    IF current_setting('voicegate.clock', TRUE) = 'caller' THEN
        RETURN;
    END IF;
    SELECT * INTO STRICT old FROM clock WHERE one;
    server := server_ms();
    now_ms := server + old.offset_ms;
    known := GREATEST(old.last_ms, expected);
    IF now_ms < old.last_ms THEN
        jumped_ms := now_ms - known;
    ELSIF expected IS NOT NULL AND now_ms > known + tolerance THEN
        jumped_ms := now_ms - known;
    END IF;
    now_ms := now_ms - jumped_ms;
    IF jumped_ms <> 0 OR now_ms >= old.last_ms + precision THEN
        UPDATE clock SET offset_ms = now_ms - server, last_ms = now_ms WHERE one;
    END IF;
END $$;
