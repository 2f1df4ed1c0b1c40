-- Videos that clients give by address. Such a job has no video_key before its video is fetched.
-- The address from which a worker has yet to fetch the video. It may contain a secret.
ALTER TABLE jobs ADD COLUMN video_url TEXT;
-- The object of another bucket in which the video is, as s3://BUCKET/KEY. It is read there and not copied.
ALTER TABLE jobs ADD COLUMN video_object TEXT;
-- Finds the next video to fetch, and the videos that are being fetched.
CREATE INDEX jobs_unfetched ON jobs (rank, id) WHERE video_url IS NOT NULL;
-- Finds the next video to analyze.
CREATE INDEX jobs_ranked ON jobs (rank, id) WHERE status = 'queued' AND video_url IS NULL;
