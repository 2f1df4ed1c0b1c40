-- What the people in the video were told before it was sent, as JSON; NULL: the sender said nothing about it.
ALTER TABLE jobs ADD COLUMN notice TEXT;
ALTER TABLE uploads ADD COLUMN notice TEXT;
