SELECT i.source FROM channel AS c
JOIN intent AS i ON i.source BETWEEN '\x00'::bytea || c.channel_id || '\x0000000000000000'::bytea
  AND '\x00'::bytea || c.channel_id || '\xffffffffffffffff'::bytea
WHERE c.shard = $1 AND c.phase <> 'closed'
ORDER BY i.source
