-- What the peer's init of the present connection said, so that any replica can tell.
ALTER TABLE peer_connection ADD COLUMN features bytea;

CREATE FUNCTION accept_connection(p_shard int4, p_epoch int8, p_owner text, p_peer bytea, p_gateway text, p_connection int8,
  p_features bytea, OUT accepted boolean, OUT new_generation int8, OUT previous_gateway text) LANGUAGE plpgsql AS $$
BEGIN
  SELECT a.accepted, a.new_generation, a.previous_gateway INTO accepted, new_generation, previous_gateway
  FROM accept_connection(p_shard, p_epoch, p_owner, p_peer, p_gateway, p_connection) AS a;
  IF accepted THEN
    UPDATE peer_connection SET features = p_features
    WHERE peer_node_id = p_peer AND generation = new_generation AND features IS DISTINCT FROM p_features;
  END IF;
END $$;
