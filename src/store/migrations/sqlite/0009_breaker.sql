-- A pause that a provider asks for ends in its time; one that follows from failures ends with the first success.
--   broken_until   no attempt before, because of failures
--   failures_ever  failures that counted, since the connection was first used: it tells whether one was counted between
--                  the beginning of an attempt and its end
ALTER TABLE connections ADD COLUMN broken_until INTEGER NOT NULL DEFAULT 0;
ALTER TABLE connections ADD COLUMN failures_ever INTEGER NOT NULL DEFAULT 0;
