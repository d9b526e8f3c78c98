-- Names that providers gave to uploaded bytes: the same bytes are uploaded once over a connection, for each form.
CREATE TABLE provider_media (
    connection  TEXT NOT NULL,
    form        TEXT NOT NULL,
    sha256      TEXT NOT NULL,
    value       TEXT NOT NULL,
    valid_until INTEGER,
    added_at    INTEGER NOT NULL,
    PRIMARY KEY (connection, form, sha256)
) WITHOUT ROWID;
CREATE INDEX provider_media_added ON provider_media (added_at);

-- Until when a connection may open no new conversations, and why.
ALTER TABLE connections ADD COLUMN closed_until INTEGER;
ALTER TABLE connections ADD COLUMN closed_why TEXT;
