-- settled_height: the best height at which the close had been settled for good. Such a row is history: it is not loaded once no
-- reorganisation can reach that height.
ALTER TABLE funding ADD COLUMN settled_height int4;
CREATE INDEX funding_at_work ON funding (channel_id) WHERE settled_height IS NULL;
CREATE INDEX funding_settled ON funding (settled_height) WHERE settled_height IS NOT NULL;

-- From which height on an HTLC of the channel may demand the chain; null: not looked at by this release yet,
-- 2147483647: nothing demands it. Channels without a deadline cost a start nothing.
ALTER TABLE monitor ADD COLUMN next_deadline_height int4;
CREATE INDEX monitor_with_deadline ON monitor (channel_id)
  WHERE close_state = 'open' AND (next_deadline_height IS NULL OR next_deadline_height < 2147483647);
