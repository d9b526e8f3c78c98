-- Small sources, as they came: beside their note, so that one commit holds both. Larger ones are files in the media
-- folder.
CREATE TABLE sources (
    note_id TEXT PRIMARY KEY REFERENCES notes (id) ON DELETE CASCADE,
    bytes   BLOB NOT NULL
) WITHOUT ROWID;
