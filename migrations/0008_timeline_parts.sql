-- The rows of a result's timeline, a thousand a row of this table, so that a page of them, or all of them one after
-- another, can be had without all at once. Results of older versions have theirs in results.timeline.
CREATE TABLE timeline_parts (
    token     TEXT   NOT NULL REFERENCES results (token) ON DELETE CASCADE,
    -- Place of the first of its rows in the timeline, from 0.
    start_row BIGINT NOT NULL,
    timeline  TEXT   NOT NULL,
    PRIMARY KEY (token, start_row)
);
