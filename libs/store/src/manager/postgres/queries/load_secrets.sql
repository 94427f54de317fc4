SELECT s.* FROM channel AS c JOIN secret_bucket AS s USING (channel_id)
WHERE c.shard = $1 AND c.phase <> 'closed'
ORDER BY s.channel_id, s.bucket
