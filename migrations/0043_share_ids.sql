-- Names the result in share links instead of the token, which also lets its holder erase the result. NULL: no link was made.
ALTER TABLE jobs ADD COLUMN share_id TEXT;
CREATE UNIQUE INDEX jobs_share ON jobs (share_id) WHERE share_id IS NOT NULL;
