SELECT c.shard, c.channel_id FROM scid AS s JOIN channel AS c USING (channel_id) WHERE s.scid = $1
