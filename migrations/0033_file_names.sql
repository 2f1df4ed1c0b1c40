-- The name of the client's file, for page, report, mail and the list of analyses. NULL if it is not known or not kept.
ALTER TABLE jobs ADD COLUMN file_name TEXT;
