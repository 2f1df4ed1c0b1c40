-- The pictures that POST /save_frame keeps in the storage, for its quotas.
CREATE TABLE saved_frames (
    frame_key  TEXT   NOT NULL PRIMARY KEY,
    -- Pseudonym of the client.
    client     TEXT   NOT NULL,
    size_bytes BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
