-- Batches: several videos that one request sends by address, with one webhook at the end. Each accepted item is an ordinary job.
INSERT INTO counters (name, value) VALUES ('batches', 0);

CREATE TABLE batches (
    id         TEXT   NOT NULL PRIMARY KEY,
    -- Rises from batch to batch; the place in lists.
    number     BIGINT NOT NULL UNIQUE,
    -- The id of the key that sent it; NULL if none did.
    owner      TEXT,
    -- Rises whenever a job ends, which also locks the row: of two jobs that end at once, the second one sees the end of the first.
    version    BIGINT NOT NULL,
    -- NULL as soon as the outbox holds it, or if nobody wants one.
    webhook    TEXT,
    request_id TEXT,
    created_at BIGINT NOT NULL,
    -- When its last job ended; NULL before.
    ended_at   BIGINT,
    -- When it was cancelled; NULL if it was not.
    cancelled_at BIGINT
);
CREATE INDEX batches_owner ON batches (owner, number);
-- Finds batches whose last job was ended by a process of an older version, which knows no batches.
CREATE INDEX batches_open ON batches (number) WHERE ended_at IS NULL;

CREATE TABLE batch_items (
    batch    TEXT   NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    -- The place in the request, from 0.
    position BIGINT NOT NULL,
    -- The token of its job, which may have been erased since; NULL if the item was refused.
    token    TEXT,
    -- The JSON of the problem for which it was refused.
    refusal  TEXT,
    -- 1: its job was erased when the batch was cancelled.
    cancelled BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (batch, position)
);

-- The batch of a job; NULL: none. No foreign key, since a job may outlive its batch.
ALTER TABLE jobs ADD COLUMN batch TEXT;
CREATE INDEX jobs_batch ON jobs (batch) WHERE batch IS NOT NULL;

-- The webhooks of batches. Like the table outbox, whose rows cannot outlive one job.
CREATE TABLE batch_outbox (
    id         TEXT   NOT NULL PRIMARY KEY,
    batch      TEXT   NOT NULL UNIQUE REFERENCES batches (id) ON DELETE CASCADE,
    recipient  TEXT,
    status     TEXT   NOT NULL,
    run_at     BIGINT NOT NULL,
    attempts   BIGINT NOT NULL,
    last_error TEXT,
    created_at BIGINT NOT NULL,
    sent_at    BIGINT
);
CREATE INDEX batch_outbox_due ON batch_outbox (run_at, id) WHERE status = 'queued';

-- Like the table idempotency, for requests that send a batch.
CREATE TABLE batch_requests (
    owner       TEXT   NOT NULL,
    name_sha256 TEXT   NOT NULL,
    body_sha256 TEXT   NOT NULL,
    batch       TEXT   NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (owner, name_sha256)
);
CREATE INDEX batch_requests_age ON batch_requests (created_at);
CREATE INDEX batch_requests_batch ON batch_requests (batch);
