-- The parts of analyses that were broken off, for the run that continues. They are erased when the job ends.
CREATE TABLE analysis_parts (
    token   TEXT    NOT NULL REFERENCES jobs (token) ON DELETE CASCADE,
    -- From 0, in order of time.
    number  INTEGER NOT NULL,
    -- JSON, gzip, base64.
    content TEXT    NOT NULL,
    PRIMARY KEY (token, number)
);
-- The number of parts that the runs of a job have kept.
ALTER TABLE jobs ADD COLUMN parts INTEGER NOT NULL DEFAULT 0;
