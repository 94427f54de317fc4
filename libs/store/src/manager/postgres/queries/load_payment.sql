SELECT * FROM payment WHERE payment_hash = $1 AND shard = $2
