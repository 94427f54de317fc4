SELECT * FROM payment WHERE shard = $1 AND NOT finished ORDER BY payment_hash
