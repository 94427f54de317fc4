-- What chain-monitor says besides: the funding never confirms.
ALTER TABLE funding_watch DROP CONSTRAINT funding_watch_status_check;
ALTER TABLE funding_watch ADD CONSTRAINT funding_watch_status_check
  CHECK (status IN ('unconfirmed', 'confirmed', 'mismatch', 'spend_seen', 'spent', 'lost'));
