-- One index for the jobs that wait and one for those that run. A worker looks for the next job without passing the
-- running ones. A heartbeat changes no indexed column, so Postgres can write it without touching an index.
CREATE INDEX jobs_waiting ON jobs (run_at, id) WHERE status = 'queued';
CREATE INDEX jobs_running ON jobs (id) WHERE status = 'running';
DROP INDEX jobs_open;
DROP INDEX jobs_lease;
