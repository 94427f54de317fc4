-- Ids are unsigned: those with the top bit come last.
SELECT r.* FROM channel AS c JOIN htlc_removal AS r USING (channel_id)
WHERE c.shard = $1 AND c.phase <> 'closed'
ORDER BY r.channel_id, r.direction, r.htlc_id < 0, r.htlc_id
