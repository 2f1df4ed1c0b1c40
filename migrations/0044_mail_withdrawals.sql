-- When the recipient withdrew the consent; NULL: never, or confirmed again since. Nothing is sent and nothing is asked
-- meanwhile.
ALTER TABLE mail_consents ADD COLUMN withdrawn_at BIGINT;
