-- One row a process that works, renewed while it lives: what an operator sees of it. Nothing depends on it.
CREATE TABLE workers (
    name        TEXT   NOT NULL PRIMARY KEY,
    concurrency BIGINT NOT NULL,
    started_at  BIGINT NOT NULL,
    seen_at     BIGINT NOT NULL
);

-- What was finished when.
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
