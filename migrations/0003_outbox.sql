-- One row a message, written in the transaction that finishes the job.
CREATE TABLE outbox (
    -- Also the left part of its Message-ID.
    id         TEXT   NOT NULL PRIMARY KEY,
    token      TEXT   NOT NULL REFERENCES jobs (token) ON DELETE CASCADE,
    kind       TEXT   NOT NULL,
    -- NULL once the message is sent or given up.
    recipient  TEXT,
    status     TEXT   NOT NULL,
    -- When it is due; while a process sends it, when that process is taken for dead.
    run_at     BIGINT NOT NULL,
    attempts   BIGINT NOT NULL,
    last_error TEXT,
    created_at BIGINT NOT NULL,
    sent_at    BIGINT,
    UNIQUE (token, recipient, kind)
);
CREATE INDEX outbox_due ON outbox (run_at, id) WHERE status = 'queued';
