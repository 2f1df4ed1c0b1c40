-- One row an upload that comes in parts, until it is a job or its time is over.
CREATE TABLE uploads (
    -- Unguessable: whoever has it may send parts.
    id         TEXT   NOT NULL PRIMARY KEY,
    -- The key with which it was begun; NULL: none.
    owner      TEXT,
    video_key  TEXT   NOT NULL,
    -- What the storage calls it.
    handle     TEXT   NOT NULL,
    size_bytes BIGINT NOT NULL,
    part_size  BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    -- While a process puts the parts together, when that process is taken for dead.
    busy_until BIGINT NOT NULL,
    -- The job that it became.
    token      TEXT REFERENCES jobs (token) ON DELETE CASCADE
);
CREATE INDEX uploads_expiry ON uploads (expires_at);
CREATE INDEX uploads_owner ON uploads (owner) WHERE token IS NULL;
CREATE INDEX uploads_token ON uploads (token) WHERE token IS NOT NULL;
