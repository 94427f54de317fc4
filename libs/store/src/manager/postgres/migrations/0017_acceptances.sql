-- Every acceptance of a connection has a generation of its own. Who accepts one again counts its frames from the beginning:
-- under the number that it had before, the gateway would take them for repetitions, and the end of the acceptance before,
-- which may be written late, would end the present one.
CREATE OR REPLACE FUNCTION accept_connection(p_shard int4, p_epoch int8, p_owner text, p_peer bytea, p_gateway text, p_connection int8,
  OUT accepted boolean, OUT new_generation int8, OUT previous_gateway text) LANGUAGE plpgsql AS $$
BEGIN
  accepted := fence_holds(p_shard, p_epoch, p_owner);
  IF NOT accepted THEN
    RETURN;
  END IF;
  -- Changes nothing of a row that is there, but locks it: one that was only looked for might be pruned before the lock.
  INSERT INTO peer_connection AS c (peer_node_id, generation, epoch) VALUES (p_peer, 0, p_epoch)
  ON CONFLICT (peer_node_id) DO UPDATE SET epoch = c.epoch RETURNING gateway_id INTO previous_gateway;
  -- With the row locked, so that generations of a peer come in the order of its connections.
  new_generation := nextval('peer_generation');
  UPDATE peer_connection SET generation = new_generation, epoch = p_epoch, gateway_id = p_gateway, connection_id = p_connection
  WHERE peer_node_id = p_peer;
END $$;
