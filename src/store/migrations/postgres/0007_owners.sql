-- The process that works on a delivery, by the number of the advisory lock that its session for notices holds. NULL
-- before a first claim, and from processes of older versions: their leases end by themselves.
ALTER TABLE deliveries ADD COLUMN owner INTEGER;
