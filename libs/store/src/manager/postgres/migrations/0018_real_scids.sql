-- A real scid is a place in the chain: what the channel's own row says, and no name that one channel could hold against
-- another. When a block is replaced, another channel may be at that place before the first has heard that it is not. From
-- here on only aliases are names in scid, each of one channel. Its rows of kind 'real' are written and read by replicas of
-- the release before, and by nobody else.
CREATE INDEX channel_by_real_scid ON channel (short_channel_id) WHERE short_channel_id IS NOT NULL;
