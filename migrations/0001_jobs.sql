-- One row an upload, which is also its place in the queue. Times are milliseconds since 1970 (UTC).
-- Everything here is in the dialect that SQLite and Postgres share.

-- Where the next number of a row comes from: identity columns are written differently in the two databases, and a
-- number taken under this row's lock rises in the order of the commits, which makes the queue first come, first served.
CREATE TABLE counters (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('jobs', 0);

CREATE TABLE jobs (
    -- Says which job it is in logs, where the token must not stand.
    id             BIGINT NOT NULL PRIMARY KEY,
    token          TEXT   NOT NULL UNIQUE,
    status         TEXT   NOT NULL,
    version        BIGINT NOT NULL,
    options        TEXT   NOT NULL,
    -- JSON list of addresses; NULL as soon as the outbox holds them or nobody needs them.
    recipients     TEXT,
    -- NULL once the video is deleted.
    video_key      TEXT,
    -- The queue: when it is due; who runs it until when; how often it was begun; and the number of the claim that
    -- fences writes (it rises with every claim, also where a run does not count as an attempt).
    run_at         BIGINT NOT NULL,
    worker         TEXT,
    lease_until    BIGINT,
    attempts       BIGINT NOT NULL,
    claim          BIGINT NOT NULL,
    frames_done    BIGINT NOT NULL,
    frames_total   BIGINT NOT NULL,
    failure_code   TEXT,
    failure_detail TEXT,
    created_at     BIGINT NOT NULL,
    started_at     BIGINT,
    finished_at    BIGINT,
    expires_at     BIGINT
);
CREATE INDEX jobs_open ON jobs (run_at, id) WHERE status IN ('queued', 'running');
CREATE INDEX jobs_video ON jobs (video_key) WHERE video_key IS NOT NULL;
CREATE INDEX jobs_expiry ON jobs (expires_at) WHERE expires_at IS NOT NULL;
