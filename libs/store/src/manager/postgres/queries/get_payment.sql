SELECT * FROM payment WHERE payment_hash = $1
