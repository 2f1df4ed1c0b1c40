-- Runs in succession that a part of the service broke off (storage, models, memory): the longer, the longer the next
-- one waits. They do not count as attempts.
ALTER TABLE jobs ADD COLUMN setbacks BIGINT NOT NULL DEFAULT 0;
-- Runs whose process went silent. They do not count as attempts; a job that has any runs in a process of its own.
ALTER TABLE jobs ADD COLUMN deaths BIGINT NOT NULL DEFAULT 0;
-- Finds leases that ran out without a look at every waiting job.
CREATE INDEX jobs_lease ON jobs (lease_until) WHERE status = 'running';

-- Which storage belongs to this database: at most one row. The same id lies in the storage.
CREATE TABLE storage_identity (
    name       TEXT   NOT NULL PRIMARY KEY,
    id         TEXT   NOT NULL,
    -- 1 as soon as the storage carries it.
    is_written BIGINT NOT NULL,
    claimed_at BIGINT NOT NULL
);
