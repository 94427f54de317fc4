SELECT replica_id, address, greatest(0, extract(epoch FROM clock_timestamp() - heartbeat_at) * 1000)::int8 AS age_ms
FROM replica WHERE lease_until > clock_timestamp() ORDER BY replica_id
