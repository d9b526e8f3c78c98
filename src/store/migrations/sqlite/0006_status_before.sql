-- What a note was before it was last saved, so that one statement changes its status and tells whether that is news.
ALTER TABLE notes ADD COLUMN status_before TEXT;
