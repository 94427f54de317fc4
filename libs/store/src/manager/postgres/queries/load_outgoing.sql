-- Ids are unsigned: those with the top bit come last.
SELECT o.* FROM channel AS c JOIN outgoing AS o USING (channel_id)
WHERE c.shard = $1 AND c.phase <> 'closed'
ORDER BY o.channel_id, o.htlc_id < 0, o.htlc_id
