SELECT s.shard, s.epoch, s.owner, r.address FROM shard AS s LEFT JOIN replica AS r ON r.replica_id = s.owner ORDER BY s.shard
