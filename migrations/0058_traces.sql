-- The span that queued a job or a batch, as in the headers traceparent and tracestate; NULL without traces.
ALTER TABLE jobs ADD COLUMN trace TEXT;
ALTER TABLE batches ADD COLUMN trace TEXT;
