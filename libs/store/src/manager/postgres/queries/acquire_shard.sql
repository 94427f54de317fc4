SELECT * FROM acquire_shard($1, $2, $3)
