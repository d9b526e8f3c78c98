-- Small audio is stored once for each tenant and content. Notes refer to it as their source and as what was sent. It is
-- removed together with the last reference to it, by the same statement.
--   name  SHA-256 of the bytes in hexadecimal; for audio from before this migration, the id of its note
CREATE TABLE contents (
    id     INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    name   TEXT NOT NULL,
    bytes  BLOB NOT NULL,
    UNIQUE (tenant, name)
);
--   variant  0: the source, 1: what was sent
CREATE TABLE note_audio (
    note_id TEXT NOT NULL REFERENCES notes (id) ON DELETE CASCADE,
    variant INTEGER NOT NULL,
    content INTEGER NOT NULL REFERENCES contents (id),
    PRIMARY KEY (note_id, variant)
) WITHOUT ROWID;
CREATE INDEX note_audio_content ON note_audio (content);

INSERT INTO contents (tenant, name, bytes)
    SELECT n.tenant, s.note_id, s.bytes FROM sources s JOIN notes n ON n.id = s.note_id;
INSERT INTO note_audio (note_id, variant, content) SELECT c.name, 0, c.id FROM contents c;
DROP TABLE sources;

CREATE TRIGGER note_audio_goes AFTER DELETE ON note_audio BEGIN
    DELETE FROM contents WHERE id = OLD.content AND NOT EXISTS (SELECT 1 FROM note_audio WHERE content = OLD.content);
END;
CREATE TRIGGER note_audio_changes AFTER UPDATE OF content ON note_audio WHEN NEW.content <> OLD.content BEGIN
    DELETE FROM contents WHERE id = OLD.content AND NOT EXISTS (SELECT 1 FROM note_audio WHERE content = OLD.content);
END;
