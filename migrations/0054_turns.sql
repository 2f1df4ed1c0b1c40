-- The order of claims, see store/rank.rs. Jobs that waited before this column existed have 0 and go first.
ALTER TABLE jobs ADD COLUMN rank BIGINT NOT NULL DEFAULT 0;
-- Finds the last waiting job of a sender.
CREATE INDEX jobs_turns ON jobs (client, rank) WHERE status = 'queued';
