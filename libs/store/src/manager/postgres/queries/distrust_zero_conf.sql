DELETE FROM zero_conf_trust WHERE peer_node_id = $1
