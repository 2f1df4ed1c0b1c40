-- How many videos a key may send; NULL: what the settings say.
ALTER TABLE api_keys ADD COLUMN videos_per_day BIGINT;
ALTER TABLE api_keys ADD COLUMN videos_per_month BIGINT;

-- One row a key and day on which it sent videos (days since 1970, UTC).
CREATE TABLE key_usage (
    key_id TEXT   NOT NULL,
    day    BIGINT NOT NULL,
    videos BIGINT NOT NULL,
    PRIMARY KEY (key_id, day)
);
CREATE INDEX key_usage_age ON key_usage (day);
