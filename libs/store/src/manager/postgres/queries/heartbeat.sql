SELECT heartbeat($1, $2, $3, $4) AS ok
