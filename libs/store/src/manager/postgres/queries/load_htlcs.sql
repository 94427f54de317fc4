-- Ids are unsigned: those with the top bit come last.
SELECT h.* FROM channel AS c JOIN htlc AS h USING (channel_id)
WHERE c.shard = $1 AND c.phase <> 'closed'
ORDER BY h.channel_id, h.direction, h.htlc_id < 0, h.htlc_id
