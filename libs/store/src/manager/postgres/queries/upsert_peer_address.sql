INSERT INTO peer_address (peer_node_id, host, port, wanted) VALUES ($1, $2, $3, $4)
ON CONFLICT (peer_node_id) DO UPDATE SET host = excluded.host, port = excluded.port, wanted = excluded.wanted
