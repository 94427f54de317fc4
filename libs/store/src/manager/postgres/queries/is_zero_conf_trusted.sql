SELECT EXISTS (SELECT FROM zero_conf_trust WHERE peer_node_id = $1) AS trusted
