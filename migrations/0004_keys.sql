-- One row a key that may call the service. The key itself is nowhere: only the SHA-256 of its secret half.
CREATE TABLE api_keys (
    -- The public half, which stands in lists and in the request log.
    id              TEXT   NOT NULL PRIMARY KEY,
    name            TEXT   NOT NULL,
    -- Hexadecimal.
    secret_sha256   TEXT   NOT NULL,
    -- Names, separated by commas.
    scopes          TEXT   NOT NULL,
    -- NULL: what the settings say.
    rate_per_minute BIGINT,
    max_concurrent  BIGINT,
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT,
    revoked_at      BIGINT,
    last_used_at    BIGINT
);

-- The key with which a video was sent; NULL: none, so whoever has the token may see the result. No reference: a job
-- stays its owner's, and nobody else's, whatever becomes of the key's row.
ALTER TABLE jobs ADD COLUMN owner TEXT;
CREATE INDEX jobs_owner ON jobs (owner, id) WHERE owner IS NOT NULL;
