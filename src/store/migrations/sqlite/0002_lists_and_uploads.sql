-- Notes are listed by tenant, newest first: ids sort by time. An erased note has no recipient.
ALTER TABLE notes ADD COLUMN recipient TEXT;
ALTER TABLE notes ADD COLUMN via TEXT;
UPDATE notes SET
    recipient = json_extract(doc, '$.to'),
    via = json_extract(doc, '$.route[' || json_extract(doc, '$.stop') || '].connection')
WHERE json_valid(doc);
CREATE INDEX notes_listed ON notes (tenant, id);
CREATE INDEX notes_listed_by_recipient ON notes (tenant, recipient, id);
CREATE INDEX notes_listed_by_status ON notes (tenant, status, id);

-- Audio that was uploaded ahead of its notes. The row outlives the audio, to tell "expired" from "never was".
CREATE TABLE uploads (
    id         TEXT PRIMARY KEY,
    tenant     TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    has_audio  INTEGER NOT NULL DEFAULT 1,
    doc        TEXT NOT NULL
);
CREATE INDEX uploads_expiry ON uploads (expires_at);

-- What is known of a connection: until when it waits, and how its last attempt went.
DROP TABLE connections;
CREATE TABLE connections (
    connection   TEXT PRIMARY KEY,
    paused_until INTEGER NOT NULL DEFAULT 0,
    seen_at      INTEGER,
    failure      TEXT
);
