-- Notes whose stored source is speech, so that a sentence is spoken once. A row goes with the audio of its note.
--   name  a hash of everything that the speech depends on: server, model, voice, format, wishes and text
CREATE TABLE spoken (
    note_id TEXT PRIMARY KEY REFERENCES notes (id) ON DELETE CASCADE,
    tenant  TEXT NOT NULL,
    name    TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX spoken_name ON spoken (tenant, name, note_id);
