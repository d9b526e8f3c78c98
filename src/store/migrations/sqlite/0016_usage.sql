-- The share of each note in its tenant's usage: the length of its audio, its bytes as received and as sent, and the
-- attempts at providers. Kept beside the document, so that erasing a note does not lose it.
ALTER TABLE notes ADD COLUMN used_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE notes ADD COLUMN used_in INTEGER NOT NULL DEFAULT 0;
ALTER TABLE notes ADD COLUMN used_out INTEGER NOT NULL DEFAULT 0;
ALTER TABLE notes ADD COLUMN used_attempts INTEGER NOT NULL DEFAULT 0;
UPDATE notes SET
    used_ms = COALESCE(json_extract(doc, '$.probed.facts.duration_ms'), 0),
    used_in = COALESCE(json_extract(doc, '$.probed.facts.size_bytes'), 0),
    used_out = COALESCE(json_extract(doc, '$.sent.size_bytes'), 0),
    used_attempts = COALESCE(json_extract(doc, '$.attempts[#-1].n'), 0)
    WHERE json_valid(doc);
-- The usage of a period is read from this index alone.
CREATE INDEX notes_used ON notes (tenant, created_at, via, status, used_ms, used_in, used_out, used_attempts);

-- The usage of notes that were removed, by the day on which they were accepted (days since 1970, UTC). A note is counted
-- here in the transaction that removes it.
CREATE TABLE past_usage (
    tenant     TEXT NOT NULL,
    day        INTEGER NOT NULL,
    connection TEXT NOT NULL,
    status     TEXT NOT NULL,
    notes      INTEGER NOT NULL,
    ms         INTEGER NOT NULL,
    bytes_in   INTEGER NOT NULL,
    bytes_out  INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    PRIMARY KEY (tenant, day, connection, status)
) WITHOUT ROWID;
CREATE TRIGGER notes_usage_stays AFTER DELETE ON notes BEGIN
    INSERT INTO past_usage VALUES (OLD.tenant, OLD.created_at / 86400000, COALESCE(OLD.via, ''), OLD.status, 1,
        OLD.used_ms, OLD.used_in, OLD.used_out, OLD.used_attempts)
    ON CONFLICT (tenant, day, connection, status) DO UPDATE SET
        notes = notes + 1,
        ms = ms + excluded.ms,
        bytes_in = bytes_in + excluded.bytes_in,
        bytes_out = bytes_out + excluded.bytes_out,
        attempts = attempts + excluded.attempts;
END;
