-- Length of the video by its header, for estimates of waiting times; NULL: unknown.
ALTER TABLE jobs ADD COLUMN video_ms BIGINT;
