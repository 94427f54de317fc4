-- Why the writer does not know the chain as it is, as of its last renewal; empty: it knows it; null: by a release that
-- does not say. Standbys tell it.
ALTER TABLE lease ADD COLUMN doubt text;
