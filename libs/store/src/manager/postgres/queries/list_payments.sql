SELECT * FROM payment WHERE direction = $1 ORDER BY created_unix_ms DESC, payment_hash LIMIT $2
