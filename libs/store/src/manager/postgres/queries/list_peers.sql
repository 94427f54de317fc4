SELECT peer_node_id, a.host, a.port, coalesce(a.wanted, false) AS wanted, p.gateway_id, p.generation, p.features, coalesce(n.channels, 0) AS channels,
  coalesce(z.trusted, false) AS zero_conf_trusted
FROM peer_address AS a
FULL JOIN (SELECT * FROM peer_connection WHERE gateway_id IS NOT NULL) AS p USING (peer_node_id)
FULL JOIN (SELECT counterparty_node_id AS peer_node_id, count(*)::int4 AS channels FROM channel WHERE phase <> 'closed' GROUP BY 1) AS n
  USING (peer_node_id)
FULL JOIN (SELECT peer_node_id, true AS trusted FROM zero_conf_trust) AS z USING (peer_node_id)
ORDER BY peer_node_id
