-- A random secret of this installation, made at the first need and the same for all its processes: it signs links, and keys the
-- pseudonyms of clients and addresses below.
CREATE TABLE secrets (
    name  TEXT NOT NULL PRIMARY KEY,
    -- Hexadecimal.
    value TEXT NOT NULL
);

-- Who began an upload or sent a video: a pseudonym of a key or of a network. For limits by client.
ALTER TABLE uploads ADD COLUMN client TEXT;
CREATE INDEX uploads_client ON uploads (client) WHERE token IS NULL;
-- NULL as soon as the video is deleted.
ALTER TABLE jobs ADD COLUMN client TEXT;
ALTER TABLE jobs ADD COLUMN video_bytes BIGINT NOT NULL DEFAULT 0;

-- Addresses to which mails about videos that were sent without a key go only after a confirmation. The address itself is not here,
-- only its pseudonym.
CREATE TABLE mail_consents (
    address      TEXT   NOT NULL PRIMARY KEY,
    -- When the last confirmation mail was queued.
    asked_at     BIGINT NOT NULL,
    confirmed_at BIGINT
);
-- The pseudonym of the recipient without whose confirmation nothing is sent; NULL: none is needed.
ALTER TABLE jobs ADD COLUMN consent TEXT;
ALTER TABLE outbox ADD COLUMN consent TEXT;
CREATE INDEX outbox_consent ON outbox (created_at) WHERE consent IS NOT NULL;

-- How many mails a day (days since 1970, UTC) a recipient, a domain, a client or a key has caused; all under pseudonyms.
CREATE TABLE mail_usage (
    subject TEXT   NOT NULL,
    day     BIGINT NOT NULL,
    mails   BIGINT NOT NULL,
    PRIMARY KEY (subject, day)
);
CREATE INDEX mail_usage_age ON mail_usage (day);
