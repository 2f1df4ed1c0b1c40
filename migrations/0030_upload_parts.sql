-- One row a part of an upload that came through this program. A storage that cannot list the parts of an upload is told from
-- here which to join.
CREATE TABLE upload_parts (
    upload     TEXT   NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
    -- From 1.
    number     BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    -- What the storage calls these bytes (an ETag); NULL: it gave no name.
    tag        TEXT,
    PRIMARY KEY (upload, number)
);
