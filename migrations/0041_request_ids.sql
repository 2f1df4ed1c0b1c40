-- Id of the request that sent the video, for the log.
ALTER TABLE jobs ADD COLUMN request_id TEXT;
