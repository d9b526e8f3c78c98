-- One row, which is written to learn whether the database takes writes.
CREATE TABLE probes (id INTEGER PRIMARY KEY CHECK (id = 1), writes INTEGER NOT NULL);
