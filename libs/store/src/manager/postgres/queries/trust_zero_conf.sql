INSERT INTO zero_conf_trust (peer_node_id) VALUES ($1) ON CONFLICT (peer_node_id) DO NOTHING
