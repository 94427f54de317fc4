UPDATE shard SET owner = NULL WHERE shard = $1 AND epoch = $2 AND owner = $3
