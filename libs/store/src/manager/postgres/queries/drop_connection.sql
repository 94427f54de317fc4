UPDATE peer_connection SET gateway_id = NULL, connection_id = NULL
WHERE peer_node_id = $4 AND generation = $5 AND fence_holds($1, $2, $3)
