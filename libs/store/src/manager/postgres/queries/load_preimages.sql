SELECT p.* FROM channel AS c JOIN htlc_preimage AS p USING (channel_id)
WHERE c.shard = $1 AND c.phase <> 'closed'
ORDER BY p.channel_id, p.htlc_id
