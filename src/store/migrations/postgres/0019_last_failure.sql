-- The time of a webhook's last failure. A webhook that had nothing to tell for days has not failed for days.
ALTER TABLE webhooks ADD COLUMN failed_at BIGINT;
