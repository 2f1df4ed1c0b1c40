-- Finds messages that were given up, for the operator's page and for the end of their retention. Their run_at is when they
-- were given up.
CREATE INDEX outbox_dead ON outbox (run_at, id) WHERE status = 'dead';
