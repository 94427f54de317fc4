UPDATE replica SET lease_until = clock_timestamp()
WHERE replica_id = $1 AND incarnation = $2 AND lease_until > clock_timestamp()
