-- Where a program wants to hear of the end of a job; NULL as soon as the outbox holds it, or where nobody wants to.
ALTER TABLE jobs ADD COLUMN webhook TEXT;
