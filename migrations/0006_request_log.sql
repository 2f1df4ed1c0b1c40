-- One row an answered request, for operators and for clients that ask how theirs went. No address, no token, no
-- key: the endpoint is the route's template, and of the key only the public half is here.
CREATE TABLE request_log (
    id             TEXT   NOT NULL PRIMARY KEY,
    answered_at    BIGINT NOT NULL,
    request_method TEXT   NOT NULL,
    endpoint       TEXT   NOT NULL,
    status_code    BIGINT NOT NULL,
    latency_ms     BIGINT NOT NULL,
    client_id      TEXT,
    key_id         TEXT,
    prediction     TEXT,
    confidence     DOUBLE PRECISION,
    error_message  TEXT
);
CREATE INDEX request_log_age ON request_log (answered_at, id);
CREATE INDEX request_log_key ON request_log (key_id, answered_at);
