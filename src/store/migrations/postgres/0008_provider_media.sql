-- Names that providers gave to uploaded bytes: the same bytes are uploaded once over a connection, for each form.
CREATE TABLE provider_media (
    connection  TEXT NOT NULL,
    form        TEXT NOT NULL,
    sha256      TEXT NOT NULL,
    value       TEXT NOT NULL,
    valid_until BIGINT,
    added_at    BIGINT NOT NULL,
    PRIMARY KEY (connection, form, sha256)
);
CREATE INDEX provider_media_added ON provider_media (added_at);

-- Until when a connection may open no new conversations, and why.
ALTER TABLE connections ADD COLUMN closed_until BIGINT;
ALTER TABLE connections ADD COLUMN closed_why TEXT;
