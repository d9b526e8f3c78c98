-- One index for what two did before: the notes that ended, with and without audio.
DROP INDEX notes_ended;
DROP INDEX notes_with_audio;
CREATE INDEX notes_by_end ON notes (has_audio, ended_at) WHERE ended_at IS NOT NULL;

-- One index finds the jobs of a note and keeps each of them single: one send, one deadline, one look-up, one delivery of
-- each event.
DROP INDEX deliveries_send;
DROP INDEX deliveries_note;
CREATE UNIQUE INDEX deliveries_of_note ON deliveries (note_id, kind, COALESCE(event, 0));

-- When the head of a lane goes, the next delivery of the lane takes its place.
CREATE TRIGGER deliveries_elect AFTER DELETE ON deliveries WHEN OLD.head = 1 BEGIN
    UPDATE deliveries SET head = 1 WHERE id = (
        SELECT id FROM deliveries WHERE lane = OLD.lane AND state = 'queued' ORDER BY order_at, id LIMIT 1);
END;
