-- Live sessions. Such a job runs from its beginning, has no video and no lease, and no worker claims it.
-- Until when the process of the session keeps it. After this time the session is lost.
ALTER TABLE jobs ADD COLUMN live_until BIGINT;
-- Finds lost sessions.
CREATE INDEX jobs_live ON jobs (live_until) WHERE status = 'running' AND live_until IS NOT NULL;
