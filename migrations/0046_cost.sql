-- Expected cost of the analysis, in samples, for estimates of waiting times; NULL: unknown. It replaces video_ms, which
-- processes of older versions still write.
ALTER TABLE jobs ADD COLUMN cost BIGINT;
