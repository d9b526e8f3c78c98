-- Every try to tell a bot of an event.
--   status  HTTP status of the answer, if there was one
--   error   why the event was not taken; NULL if it was
CREATE TABLE event_attempts (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event   BIGINT NOT NULL REFERENCES events (seq) ON DELETE CASCADE,
    at      BIGINT NOT NULL,
    status  BIGINT,
    took_ms BIGINT NOT NULL,
    error   TEXT
);
CREATE INDEX event_attempts_of ON event_attempts (event, id);
CREATE UNIQUE INDEX events_by_id ON events (id);

-- Webhooks that failed.
--   failing_since  the first failure after the last success
--   paused_at      nothing is posted since
--   settings       stands for the settings at the last failure, without telling them
CREATE TABLE webhooks (
    tenant        TEXT COLLATE "C" PRIMARY KEY,
    failing_since BIGINT,
    paused_at     BIGINT,
    error         TEXT,
    settings      TEXT NOT NULL
) WITH (fillfactor = 50);
