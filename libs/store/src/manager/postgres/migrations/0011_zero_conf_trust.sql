-- Peers from whom the operator takes channels whose funding is not confirmed (BOLT 2, option_zeroconf).
CREATE TABLE zero_conf_trust (
  peer_node_id bytea PRIMARY KEY CHECK (length(peer_node_id) = 33)
);
