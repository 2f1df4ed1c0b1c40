-- Why an analysis failed, as JSON: a code with its numbers. Sentences in any language are made from it.
ALTER TABLE jobs ADD COLUMN failure_reason TEXT;
