-- The best height when a funding began to be watched; null: by a release that did not note it.
ALTER TABLE funding ADD COLUMN watched_height int4;
