-- Every list is read from the end of one index, whatever it asks for: the columns of its filter, the status, the id.
DROP INDEX notes_listed_by_recipient;
CREATE INDEX notes_listed_by_via ON notes (tenant, via, status, id);
CREATE INDEX notes_listed_by_recipient ON notes (tenant, recipient, via, status, id);

-- Notes that are due in more than a day are counted apart from the others, so that they do not fill the queue.
--   far  1: the note is counted as due in more than a day
ALTER TABLE deliveries ADD COLUMN far INTEGER NOT NULL DEFAULT 0;
UPDATE deliveries SET far = 1 WHERE kind = 'send' AND state = 'queued'
    AND due_at > (CAST(strftime('%s', 'now') AS INTEGER) + 86400) * 1000;
CREATE INDEX deliveries_far ON deliveries (due_at) WHERE far = 1;

-- Rows that cannot be read hold no place in the queue.
DROP TRIGGER deliveries_come;
DROP TRIGGER deliveries_go;
DROP TABLE queue_depths;
CREATE TABLE queue_depths (
    tenant TEXT PRIMARY KEY,
    depth  INTEGER NOT NULL,
    far    INTEGER NOT NULL
);
INSERT INTO queue_depths SELECT tenant, SUM(far = 0), SUM(far = 1) FROM deliveries
    WHERE kind = 'send' AND state <> 'unreadable' GROUP BY tenant;
CREATE TRIGGER deliveries_come AFTER INSERT ON deliveries WHEN NEW.kind = 'send' BEGIN
    INSERT INTO queue_depths VALUES (NEW.tenant, 1 - NEW.far, NEW.far)
    ON CONFLICT (tenant) DO UPDATE SET depth = depth + excluded.depth, far = far + excluded.far;
END;
CREATE TRIGGER deliveries_go AFTER DELETE ON deliveries
WHEN OLD.kind = 'send' AND OLD.state <> 'unreadable' BEGIN
    UPDATE queue_depths SET depth = depth - 1 + OLD.far, far = far - OLD.far WHERE tenant = OLD.tenant;
END;
CREATE TRIGGER deliveries_change AFTER UPDATE OF state, far ON deliveries
WHEN NEW.kind = 'send' AND (NEW.far <> OLD.far OR (NEW.state = 'unreadable') <> (OLD.state = 'unreadable')) BEGIN
    UPDATE queue_depths SET
        depth = depth - (OLD.state <> 'unreadable' AND OLD.far = 0) + (NEW.state <> 'unreadable' AND NEW.far = 0),
        far = far - (OLD.state <> 'unreadable' AND OLD.far = 1) + (NEW.state <> 'unreadable' AND NEW.far = 1)
    WHERE tenant = NEW.tenant;
END;

-- How much audio each tenant keeps: sources, what was made of them, and uploads.
ALTER TABLE notes ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE uploads ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE notes SET bytes = COALESCE(json_extract(doc, '$.probed.facts.size_bytes'), 0)
        + CASE WHEN json_extract(doc, '$.sent.work') <> 'none' THEN json_extract(doc, '$.sent.size_bytes') ELSE 0 END
    WHERE has_audio = 1 AND json_valid(doc);
UPDATE uploads SET bytes = COALESCE(json_extract(doc, '$.probed.facts.size_bytes'), 0)
    WHERE has_audio = 1 AND json_valid(doc);
CREATE TABLE kept_audio (tenant TEXT PRIMARY KEY, bytes INTEGER NOT NULL);
INSERT INTO kept_audio SELECT tenant, SUM(bytes)
    FROM (SELECT tenant, bytes FROM notes UNION ALL SELECT tenant, bytes FROM uploads) GROUP BY tenant;
CREATE TRIGGER notes_audio_comes AFTER INSERT ON notes WHEN NEW.bytes <> 0 BEGIN
    INSERT INTO kept_audio VALUES (NEW.tenant, NEW.bytes)
    ON CONFLICT (tenant) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER notes_audio_changes AFTER UPDATE OF bytes ON notes WHEN NEW.bytes <> OLD.bytes BEGIN
    INSERT INTO kept_audio VALUES (NEW.tenant, NEW.bytes - OLD.bytes)
    ON CONFLICT (tenant) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER notes_audio_goes AFTER DELETE ON notes WHEN OLD.bytes <> 0 BEGIN
    UPDATE kept_audio SET bytes = bytes - OLD.bytes WHERE tenant = OLD.tenant;
END;
CREATE TRIGGER uploads_audio_comes AFTER INSERT ON uploads WHEN NEW.bytes <> 0 BEGIN
    INSERT INTO kept_audio VALUES (NEW.tenant, NEW.bytes)
    ON CONFLICT (tenant) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER uploads_audio_changes AFTER UPDATE OF bytes ON uploads WHEN NEW.bytes <> OLD.bytes BEGIN
    UPDATE kept_audio SET bytes = bytes + NEW.bytes - OLD.bytes WHERE tenant = NEW.tenant;
END;
CREATE TRIGGER uploads_audio_goes AFTER DELETE ON uploads WHEN OLD.bytes <> 0 BEGIN
    UPDATE kept_audio SET bytes = bytes - OLD.bytes WHERE tenant = OLD.tenant;
END;

-- Positions of events used to be their plain numbers, which tell how many events all tenants have. Clients may still
-- hold some from before; a number above this one was never given out.
CREATE TABLE plain_positions (until INTEGER NOT NULL);
INSERT INTO plain_positions SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0);
