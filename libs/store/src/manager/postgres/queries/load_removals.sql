SELECT r.* FROM channel AS c JOIN htlc_removal AS r USING (channel_id)
WHERE c.shard = $1 AND c.phase <> 'closed'
ORDER BY r.channel_id, r.direction, r.htlc_id
