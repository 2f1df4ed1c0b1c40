-- One row an Idempotency-Key of a request that was accepted: what it was for, so that a repetition gets the same token.
CREATE TABLE idempotency (
    -- The caller's key, or '' for callers without one.
    owner       TEXT   NOT NULL,
    -- SHA-256 of what the client chose, in hexadecimal: it may have put anything in there.
    name_sha256 TEXT   NOT NULL,
    -- SHA-256 of the request's fields, in hexadecimal.
    body_sha256 TEXT   NOT NULL,
    token       TEXT   NOT NULL REFERENCES jobs (token) ON DELETE CASCADE,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (owner, name_sha256)
);
CREATE INDEX idempotency_age ON idempotency (created_at);
CREATE INDEX idempotency_token ON idempotency (token);
