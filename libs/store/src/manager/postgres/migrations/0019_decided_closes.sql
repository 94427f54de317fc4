-- chain-monitor looks for decisions at each of its turns, and there are few.
CREATE INDEX channel_closing_decided ON channel (channel_id) WHERE closing_decision IS NOT NULL;
