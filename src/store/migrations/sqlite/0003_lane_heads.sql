-- Which delivery of a lane is next is written down, so that leasing costs the same however long the queue is.
--   order_at  when the note became due; a lane is ordered by (order_at, id)
--   head      1: the one delivery of its lane that may go out or is under way
ALTER TABLE deliveries ADD COLUMN order_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN head INTEGER NOT NULL DEFAULT 0;
UPDATE deliveries SET head = 1 WHERE id IN (
    SELECT id FROM (
        SELECT id, state, ROW_NUMBER() OVER (
            PARTITION BY lane
            -- what is under way goes before what waits
            ORDER BY CASE WHEN state IN ('leased', 'sending', 'held') THEN 0 ELSE 1 END, id) AS place
        FROM deliveries WHERE state <> 'unreadable')
    WHERE place = 1);

DROP INDEX deliveries_lane;
DROP INDEX deliveries_due;
DROP INDEX deliveries_expiry;
CREATE INDEX deliveries_lane ON deliveries (lane, order_at, id);
CREATE UNIQUE INDEX deliveries_head ON deliveries (lane) WHERE head = 1;
CREATE INDEX deliveries_ready ON deliveries (connection, due_at, id) WHERE head = 1 AND state = 'queued';
CREATE INDEX deliveries_next ON deliveries (due_at) WHERE head = 1 AND state = 'queued';
CREATE INDEX deliveries_held ON deliveries (due_at) WHERE state = 'held';
CREATE INDEX deliveries_expiry ON deliveries (expires_at) WHERE state = 'queued';

-- How much waits, counted as it comes and goes.
CREATE TABLE queue_depths (tenant TEXT PRIMARY KEY, depth INTEGER NOT NULL);
INSERT INTO queue_depths SELECT tenant, COUNT(*) FROM deliveries GROUP BY tenant;
CREATE TRIGGER deliveries_come AFTER INSERT ON deliveries BEGIN
    INSERT INTO queue_depths VALUES (NEW.tenant, 1) ON CONFLICT (tenant) DO UPDATE SET depth = depth + 1;
END;
CREATE TRIGGER deliveries_go AFTER DELETE ON deliveries BEGIN
    UPDATE queue_depths SET depth = depth - 1 WHERE tenant = OLD.tenant;
END;

-- When attempts over a connection with a rate began. `rate_until`: no further one before.
CREATE TABLE starts (connection TEXT NOT NULL, at INTEGER NOT NULL);
CREATE INDEX starts_at ON starts (connection, at);
ALTER TABLE connections ADD COLUMN rate_until INTEGER NOT NULL DEFAULT 0;
