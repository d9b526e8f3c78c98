-- Small audio is stored once for each tenant and content. Notes refer to it as their source and as what was sent. It is
-- removed together with the last reference to it, in the same transaction.
--   name  SHA-256 of the bytes in hexadecimal; for audio from before this migration, the id of its note
CREATE TABLE contents (
    id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    name   TEXT COLLATE "C" NOT NULL,
    bytes  BYTEA NOT NULL,
    UNIQUE (tenant, name)
);
-- Audio is compressed already.
ALTER TABLE contents ALTER COLUMN bytes SET STORAGE EXTERNAL;
--   variant  0: the source, 1: what was sent
CREATE TABLE note_audio (
    note_id TEXT COLLATE "C" NOT NULL REFERENCES notes (id) ON DELETE CASCADE,
    variant INTEGER NOT NULL,
    content BIGINT NOT NULL REFERENCES contents (id),
    PRIMARY KEY (note_id, variant)
);
CREATE INDEX note_audio_content ON note_audio (content);

INSERT INTO contents (tenant, name, bytes)
    SELECT n.tenant, s.note_id, s.bytes FROM sources s JOIN notes n ON n.id = s.note_id;
INSERT INTO note_audio (note_id, variant, content) SELECT c.name, 0, c.id FROM contents c;
DROP TABLE sources;

-- Removes a content that no note refers to any more. A reference that is just being added holds the row, so this waits
-- for its commit, and the check that follows sees it.
CREATE FUNCTION drop_content() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.content = OLD.content THEN
        RETURN NULL;
    END IF;
    PERFORM 1 FROM contents WHERE id = OLD.content FOR UPDATE;
    DELETE FROM contents WHERE id = OLD.content AND NOT EXISTS (SELECT 1 FROM note_audio WHERE content = OLD.content);
    RETURN NULL;
END $$;
CREATE TRIGGER note_audio_goes AFTER DELETE OR UPDATE OF content ON note_audio
    FOR EACH ROW EXECUTE FUNCTION drop_content();

-- Refers to a content, which is stored if it is not there. The bytes may be left out by who knows that they are.
CREATE FUNCTION keep_audio(of_note TEXT, of_tenant TEXT, of_variant INTEGER, of_name TEXT, of_bytes BYTEA)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    known BIGINT;
BEGIN
    LOOP
        -- The lock keeps the row until the commit.
        SELECT id INTO known FROM contents WHERE tenant = of_tenant AND name = of_name FOR KEY SHARE;
        EXIT WHEN known IS NOT NULL;
        INSERT INTO contents (tenant, name, bytes) VALUES (of_tenant, of_name, of_bytes)
        ON CONFLICT (tenant, name) DO NOTHING RETURNING id INTO known;
        EXIT WHEN known IS NOT NULL;
    END LOOP;
    INSERT INTO note_audio AS a VALUES (of_note, of_variant, known)
    ON CONFLICT (note_id, variant) DO UPDATE SET content = EXCLUDED.content WHERE a.content <> EXCLUDED.content;
END $$;
