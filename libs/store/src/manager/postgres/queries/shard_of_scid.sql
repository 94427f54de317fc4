-- Of two channels that say they are at the same place (a block was replaced, and one has not heard of it yet) the one that
-- chain-monitor sees there.
(SELECT c.shard, c.channel_id FROM channel AS c LEFT JOIN funding_watch AS w USING (channel_id)
 WHERE c.short_channel_id = $1
 ORDER BY (w.status = 'confirmed' AND ((w.height << 40) | (w.tx_index::int8 << 16) | w.funding_output_index) = $1) IS TRUE DESC
 LIMIT 1)
UNION ALL
(SELECT c.shard, c.channel_id FROM scid AS s JOIN channel AS c USING (channel_id) WHERE s.scid = $1 AND s.kind <> 'real')
LIMIT 1
