-- Parts of the work on a long video, which several workers do at the same time. They are erased when the job ends.
CREATE TABLE analysis_pieces (
    token       TEXT    NOT NULL REFERENCES jobs (token) ON DELETE CASCADE,
    number      INTEGER NOT NULL,
    -- JSON.
    piece       TEXT    NOT NULL,
    -- waiting, running or done.
    status      TEXT    NOT NULL DEFAULT 'waiting',
    -- 1: any worker may do it. 0: only the worker of the job.
    shared      INTEGER NOT NULL DEFAULT 1,
    -- It increases with every claim of the piece.
    claim       BIGINT  NOT NULL DEFAULT 0,
    lease_until BIGINT,
    -- Number of claims whose lease ran out.
    deaths      INTEGER NOT NULL DEFAULT 0,
    frames_done BIGINT  NOT NULL DEFAULT 0,
    -- What was read of a piece that is not done: JSON, gzip, base64.
    begun       TEXT,
    -- JSON, gzip, base64.
    result      TEXT,
    PRIMARY KEY (token, number)
);
CREATE INDEX analysis_pieces_waiting ON analysis_pieces (token, number) WHERE status = 'waiting' AND shared = 1;
